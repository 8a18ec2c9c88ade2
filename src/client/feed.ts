// Follows a topic, by an async iterator with a bounded buffer or by a listener. If the reader is slow and the buffer is full, the
// iterator leaves the topic. It joins again after the last buffered event, once the reader has emptied the buffer.
import { DeckError } from './errors.ts'
import type { Follower, Place } from './follower.ts'
import type { Topics } from './topics.ts'
import { call, defer, onAbort } from './async.ts'

export type FollowOptions = {
  /** all events after this seq; if left out, only new events */
  after?: number | undefined
  /** the epoch of `after` */
  epoch?: string | undefined
  /** ends the subscription without an error */
  signal?: AbortSignal | undefined
}
export type FeedOptions = FollowOptions & {
  /** the number of events to buffer; 1000 if left out. Independently, the buffer holds up to 4 MiB */
  buffer?: number | undefined
  /** also signals: drafts, typing, read positions, presence; signals may be lost */
  signals?: boolean | undefined
  /** also `presence` signals: the chat's followers */
  presence?: boolean | undefined
  /** for the list of missions: a new chat counts as a change of its mission */
  chats?: boolean | undefined
  /** also `question` signals, without `signals` too: a question to the citizen has changed */
  questions?: boolean | undefined
}

export type Feed<E> = AsyncIterableIterator<E> & {
  /** resolves to the start position once the server has answered */
  ready: Promise<Place>
}
type Off = () => void
export type Topic<E extends { event: string }, S extends { event: string } = never> = {
  /** The events in order, as they arrive; for one reader. */
  follow(options: FeedOptions & { signals: true }): Feed<E | S>
  follow(options: FeedOptions & { questions: true }): Feed<E | Extract<S, { event: 'question' }>>
  follow(options?: FeedOptions): Feed<E>
  /** Calls a listener for each event of a name, or for all ('*'). Returns a function that removes it. A topic's end is a deck 'error'. */
  on<N extends (E | S)['event']>(
    name: N,
    listener: (event: Extract<E | S, { event: N }>) => unknown,
    options?: FollowOptions,
  ): Off
  on(name: '*', listener: (event: E | S) => unknown, options?: FollowOptions): Off
}

const mostBytes = 4 * 1024 * 1024

export const makeTopic = <E extends { event: string }, S extends { event: string } = never>(
  topics: Topics,
  name: string,
  onFault: (error: DeckError) => void,
): Topic<E, S> => {
  const start = (
    options: FollowOptions & Pick<FeedOptions, 'presence' | 'chats' | 'questions'>,
    take: Pick<Follower, 'give' | 'end' | 'joined'>,
  ) => {
    const follower: Follower = {
      last: options.after,
      epoch: options.after === undefined ? undefined : options.epoch,
      replay: options.after !== undefined,
      presence: options.presence ?? false,
      chats: options.chats ?? false,
      questions: options.questions ?? false,
      ...take,
    }
    topics.join(name, follower)
    return { join: () => topics.join(name, follower), leave: () => topics.leave(name, follower) }
  }

  const follow = (options: FeedOptions = {}): Feed<E | S> => {
    const { buffer = 1000, signals = false, questions = false, signal } = options
    const waiting: { event: E | S; size: number }[] = []
    const readers: ReturnType<typeof defer<IteratorResult<E | S>>>[] = []
    const ready = defer<Place>()
    let bytes = 0
    /** the buffer was full: the topic was left until it is empty */
    let away = false
    let over = false
    let failure: DeckError | undefined

    const finish = (error?: DeckError): void => {
      if (over) return
      over = true
      forget()
      failure = error
      ready.reject(error ?? new DeckError('closed', 'the subscription was ended'))
      for (const reader of readers.splice(0)) {
        if (failure) reader.reject(failure)
        else reader.resolve({ done: true, value: undefined })
        failure = undefined
      }
    }
    const stop = (): void => {
      if (!over) place.leave()
      waiting.length = 0
      finish()
    }
    // The signal's listener is set last: if the signal is already aborted, it is called at once.
    let forget = (): void => {}
    const place = start(options, {
      joined: ready.resolve,
      // The caller closed the deck.
      end: (error) => finish(error.code === 'closed' ? undefined : error),
      give(given, size, stored) {
        const event = given as E | S
        // Followers share a subscription: each gets the signals that it asked for.
        if (!stored && !(event.event === 'question' ? questions : signals)) return
        const reader = readers.shift()
        if (reader) return reader.resolve({ done: false, value: event })
        waiting.push({ event, size })
        bytes += size
        if (waiting.length < buffer && bytes < mostBytes) return
        away = true
        place.leave()
      },
    })
    forget = onAbort([signal], stop)
    if (over) forget()

    return {
      ready: ready.promise,
      next() {
        const found = waiting.shift()
        const reader = defer<IteratorResult<E | S>>()
        if (found) {
          bytes -= found.size
          reader.resolve({ done: false, value: found.event })
          if (away && waiting.length === 0 && !over) {
            away = false
            place.join()
          }
        } else if (failure) {
          reader.reject(failure)
          failure = undefined
        } else if (over) reader.resolve({ done: true, value: undefined })
        else readers.push(reader)
        return reader.promise
      },
      return() {
        stop()
        return Promise.resolve({ done: true, value: undefined })
      },
      [Symbol.asyncIterator]() {
        return this
      },
    }
  }

  return {
    follow: follow as Topic<E, S>['follow'],
    on(wanted: string, listener: (event: never) => unknown, options: FollowOptions = {}): Off {
      const place = start(
        { ...options, presence: wanted === 'presence', questions: wanted === 'question' },
        {
          joined: () => {},
          end(error) {
            forget()
            if (error.code !== 'closed') onFault(error)
          },
          give(event) {
            if (wanted === '*' || (event as { event: string }).event === wanted) call(listener, event as never)
          },
        },
      )
      let forget = (): void => {}
      const off = (): void => {
        forget()
        place.leave()
      }
      forget = onAbort([options.signal], off)
      return off
    },
  }
}
