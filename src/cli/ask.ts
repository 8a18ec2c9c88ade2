// mission-deck ask: sends a question, shows what becomes of it and the reply while it is written, and ends once the reply is stored.
// The reply is the citizen's message that names the question; the draft of a worker has the question's key. A citizen that has no inbox
// may write without naming anything: its next message ends the question, so that is the reply, unless its draft began before the question.
import { setTimeout as delay } from 'node:timers/promises'
import type { ChatEvent, ChatSignal } from '../client/events.ts'
import { isPassing } from '../client/errors.ts'
import type { Chat, Deck } from '../client/index.ts'
import { taskKey } from '../client/reply-writer.ts'
import { deny } from '../protocol/errors.ts'
import type { Message, Question } from '../protocol/rows.ts'
import { plain, Unanswered, type Io } from './output.ts'
import { makeStateLine, seenOf } from './question-line.ts'
import { withDeck, type RemoteOptions } from './server-connection.ts'
import { makeReplyView } from './reply-printer.ts'
import { makeStepLines } from './step-lines.ts'
import { textOf } from './say.ts'
import { writeMessage } from './markdown-printer.ts'

export type AskOptions = RemoteOptions & { timeout: number; wait?: number; key?: string }
type Asking = {
  question: Message
  /** The question was stored before: its event does not come. */
  isKnown: boolean
  place: { mission: string; citizen: string }
  deck: Deck
  chat: Chat
  io: Io
  /** Ends the command: undefined once the reply is printed, otherwise with the reason. */
  finish: (why?: Error) => void
  /** seconds until it ends if nobody works for the citizen */
  wait: number
}

/** ms between two reads of the question: a lease that runs out and a worker that comes or goes send no signal. */
const readEvery = 2000

const unlessPassing = (error: unknown): void => {
  if (!isPassing(error)) throw error
}

/** Follows a question from its storing to its reply or its end. */
const makeFollower = ({ question, isKnown, place, deck, chat, io, finish, wait }: Asking) => {
  const { mission, citizen } = place
  const view = makeReplyView(io)
  const line = makeStateLine(io, citizen)
  const changed = makeStepLines()
  const replyKey = taskKey(question.id)
  /** keys of drafts that began before the question */
  const earlier = new Set<string>()
  let asked = isKnown
  /** the citizen's first message after the question that names none */
  let unnamed: Message | undefined
  let printed = false
  let lastSeen: string | null | undefined
  let alone: number | undefined

  const print = (reply: Message): void => {
    if (printed) return
    printed = true
    line.stop()
    if (io.json) io.print('', { event: 'message.created', seq: reply.seq, data: reply })
    else if (!io.live) io.write(`${plain(reply.message)}\n`)
    else if (!view.stored(reply)) writeMessage(io, reply)
    finish()
  }

  /** Takes the question's state, or that the message is no question any more. */
  const update = async (now: Question | undefined, listening: boolean, signal: AbortSignal): Promise<void> => {
    const idle = now?.state === 'waiting' && !listening
    if (idle && alone === undefined)
      lastSeen = (await deck.citizens({ signal })).find(({ name }) => name === citizen)?.last_seen
    if (printed) return
    alone = idle ? (alone ?? performance.now()) : undefined
    if (!now && unnamed) return print(unnamed)
    line.show({ question: now, listening, ...(idle ? { last_seen: lastSeen } : {}) })
    const retry = `mission-deck retry ${mission} ${citizen} ${question.seq}`
    if (now?.answer) {
      const { seq } = now.answer
      const [reply] = (await chat.history({ after: seq - 1, limit: 1, signal })).messages
      if (reply?.id === now.answer.id) print(reply)
    } else if (now?.state === 'failed')
      finish(new Unanswered(3, 'unavailable', `${citizen} gave up after five attempts: try again with ${retry}`))
    else if (now?.state === 'closed') finish(new Unanswered(3, 'conflict', 'the question was closed without a reply'))
    else if (now?.state === 'answered')
      finish(new Unanswered(3, 'not_found', 'the question was answered, but its reply was removed'))
    else if (alone !== undefined && performance.now() - alone >= wait * 1000)
      finish(
        new Unanswered(
          4,
          'unavailable',
          `${citizen} is not connected${lastSeen === undefined ? '' : ` (${seenOf(lastSeen)})`}; the question stays: ` +
            `mission-deck questions ${mission} ${citizen}`,
        ),
      )
  }

  const read = async (signal: AbortSignal): Promise<void> => {
    const page = await chat.questions({ before: question.seq + 1, limit: 1, signal })
    await update(
      page.questions.find(({ id }) => id === question.id),
      page.listening,
      signal,
    )
  }

  const created = async (message: Message, signal: AbortSignal): Promise<void> => {
    const { id, sender, seq, key, in_reply_to } = message
    asked ||= id === question.id
    if (sender !== 'citizen' || seq <= question.seq || printed) return
    if (in_reply_to === question.id) return print(message)
    if (in_reply_to !== null || (key !== null && earlier.has(key))) return
    unnamed ??= message
    await read(signal)
  }

  const draft = (event: Extract<ChatSignal, { event: 'draft' }>): void => {
    if (!asked) earlier.add(event.key)
    if (event.key !== replyKey) return
    const { key, citizen, offset, delta, activity } = event
    if (io.json) return io.print('', { event: 'draft', key, citizen, offset, delta, ...(activity ? { activity } : {}) })
    if (!io.live) return changed(activity).forEach((step) => io.note(step))
    line.hide(true)
    view.grow(event)
  }

  return {
    async take(event: ChatEvent | ChatSignal, signal: AbortSignal): Promise<void> {
      if (event.event === 'message.created') return created(event.data, signal)
      if (event.event === 'draft') return draft(event)
      if (event.event === 'aborted' && event.key === replyKey) {
        if (io.json) return io.print('', event)
        view.aborted(event.key)
        line.hide(false)
      } else if (event.event === 'question' && event.id === question.id) {
        const { id, seq, state, attempt, since, until, answer, listening } = event
        await update({ id, seq, state, attempt, since, until, answer }, listening, signal)
      } else if (event.event === 'chat.cleared' && event.seq > question.seq)
        finish(deny('not_found', 'the chat was cleared, with the question'))
    },
    /** Reads the question at once and then at intervals, until the signal is aborted. */
    async watch(signal: AbortSignal): Promise<void> {
      while (!signal.aborted) {
        try {
          await read(signal)
          await delay(readEvery, undefined, { signal })
        } catch (error) {
          if (signal.aborted) return
          unlessPassing(error)
        }
      }
    },
    stop: line.stop,
  }
}

export const ask = async (mission: string, citizen: string, given: string, options: AskOptions): Promise<void> => {
  const text = await textOf(given)
  await withDeck(options, async ({ deck, io, signal }) => {
    const chat = deck.chat(mission, citizen)
    const end = new AbortController()
    const until = AbortSignal.any([signal, end.signal])
    let failure: Error | undefined
    const finish = (why?: Error): void => {
      if (end.signal.aborted) return
      failure = why
      end.abort()
    }
    const feed = chat.follow({ signals: true, questions: true, signal: until })
    const { seq } = await feed.ready
    // The server sends drafts in progress right after the subscription. After one more round trip they are in the feed, ahead of the question.
    await chat.history({ limit: 1, signal: until })
    const timer = setTimeout(
      () => finish(deny('unavailable', `no reply within ${options.timeout} s`)),
      options.timeout * 1000,
    )
    let question: Message | undefined
    let follower: ReturnType<typeof makeFollower> | undefined
    try {
      question = await chat.send(text, { ...(options.key === undefined ? {} : { key: options.key }), signal: until })
      if (io.json) io.print('', { event: 'message.created', seq: question.seq, data: question })
      else io.note(`#${question.seq} is stored`)
      const { wait = Infinity } = options
      follower = makeFollower({
        question,
        isKnown: question.seq <= seq,
        place: { mission, citizen },
        deck,
        chat,
        io,
        finish,
        wait,
      })
      const { take, watch } = follower
      const reading = (async (): Promise<void> => {
        // The question is read again at intervals, so a read that fails for now is skipped.
        for await (const event of feed) await take(event, until).catch(unlessPassing)
      })()
      await Promise.all([reading, watch(until)])
    } catch (error) {
      if (!until.aborted) throw error
    } finally {
      clearTimeout(timer)
      follower?.stop()
    }
    if (!failure) return
    if (failure instanceof Unanswered || question === undefined || !('detail' in failure)) throw failure
    throw deny(
      'unavailable',
      `${String(failure.detail)}; the question is stored: mission-deck tail ${mission} ${citizen} --after ${question.seq}`,
    )
  })
}
