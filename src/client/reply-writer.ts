// A reply that is being written. The text since the last answer is sent as one delta, from the server's offset, so that a writer
// resumes after any reconnect with the text that the server lacks, and never waits. Ended by `done`, which stores it once under its
// key, or by `abort`. Holds the whole text until then. A second writer under the key takes the draft from the first, which fails.
import type { Message, NewMessage } from '../protocol/rows.ts'
import { DeckError } from './errors.ts'
import type { Link } from './link.ts'
import { newKey, sleep } from './async.ts'
import type { Frame } from './requests.ts'

export type DoneOptions = {
  /** stored instead of what was written */
  message?: string | undefined
  code_blocks?: NewMessage['code_blocks']
  /** the task of the inbox that it answers */
  task?: string | undefined
}
export type Writer = {
  readonly key: string
  /** all that was written */
  readonly text: string
  /** Aborted when somebody cancels the reply, or when it can't be written any more; end it with `done` or `abort`. */
  readonly signal: AbortSignal
  /** Adds to the reply; throws what the server refused it for. */
  write(text: string): void
  /** Stores it; -> the message, once it is committed. */
  done(options?: DoneOptions): Promise<Message>
  /** Drops it. */
  abort(): Promise<void>
}
/** What the inbox sees of it besides. */
export type Writing = Writer & {
  /** why it can't be written any more */
  readonly failure: unknown
  /** its end, once somebody asked for one */
  readonly ending: { by: 'done' | 'abort'; over: Promise<void> } | undefined
  fail(error: unknown): void
}

/** ms between two deltas: the server passes them on every 40. */
const pace = 20

export const makeWriters = (link: Link) => {
  const open = new Set<{ key: string; chat: string; stop: (reason: unknown) => void }>()

  const write = (topic: string, key = newKey(), task?: string): Writing => {
    const stopping = new AbortController()
    // The mission may be named by its number here, and is by its UUID in what the server sends.
    const entry = { key, chat: topic.split('/').slice(2).join('/'), stop: (why: unknown) => stopping.abort(why) }
    let text = ''
    let at = 0
    /** the connection on which the draft is ours */
    let owned = 0
    let conflicts = 0
    let sent = false
    let saved: Message | undefined
    let failure: unknown
    let ending: Writing['ending']
    let pumping: Promise<void> | undefined
    open.add(entry)

    const fail = (error: unknown): void => {
      failure ??= error
      open.delete(entry)
      entry.stop(error)
    }

    /** How far it may be sent: not to the middle of a character. */
    const end = (): number => {
      const last = text.charCodeAt(text.length - 1)
      return last >= 0xd800 && last < 0xdc00 ? text.length - 1 : text.length
    }

    /** One frame, from where the server stands; false if it stands somewhere else. */
    const push = async (to: number, more: Record<string, unknown>): Promise<boolean> => {
      const { session } = link
      sent = true
      try {
        const { offset, message } = await link.ask<{ offset: number; message?: Message }>({
          type: 'stream',
          topic,
          key,
          ...('message' in more ? {} : { offset: at }),
          ...(to > at ? { delta: text.slice(at, to) } : {}),
          ...more,
        })
        owned = session
        conflicts = 0
        if (message) saved = message
        else at = offset
        return true
      } catch (error) {
        const { code, offset } = error as DeckError
        // Here it was ours: somebody else writes it now. After a reconnect what the server holds may be older than what it said.
        if (code !== 'conflict' || offset === undefined || owned === session || ++conflicts > 5) throw error
        at = offset <= text.length ? offset : 0
        return false
      }
    }

    const pump = async (): Promise<void> => {
      try {
        while (!ending && !saved && !failure && end() > at) {
          await link.insist(() => push(end(), {}))
          await sleep(pace, link.ended)
        }
      } catch (error) {
        fail(error)
      }
      pumping = undefined
    }

    const close = (by: 'done' | 'abort', more: Record<string, unknown> = {}): Promise<void> => {
      if (ending) return Promise.reject(new DeckError('conflict', 'this reply was ended before'))
      const over = (async () => {
        await pumping
        if (by === 'done' && failure) throw failure as Error
        const to = by === 'done' && !('message' in more) ? text.length : at
        // (What is aborted before anything was sent is nowhere.)
        if (by === 'done' || sent) while (!saved && !(await link.insist(() => push(to, { [by]: true, ...more }))));
        open.delete(entry)
      })()
      ending = { by, over }
      // One that could not be stored may still be dropped.
      over.catch(() => (ending = undefined))
      return over
    }

    return {
      key,
      signal: stopping.signal,
      fail,
      get text() {
        return text
      },
      get failure() {
        return failure
      },
      get ending() {
        return ending
      },
      write(more) {
        if (failure) throw failure as Error
        if (ending) throw new DeckError('conflict', 'this reply was ended before')
        text += more
        pumping ??= pump()
      },
      async done(options = {}) {
        const given = Object.entries({ task, ...options }).filter(([, value]) => value != null)
        await close('done', Object.fromEntries(given))
        return saved as unknown as Message
      },
      abort: () => close('abort'),
    }
  }

  return {
    write,
    /** Takes a frame `cancel`. */
    cancelled({ topic, key, by }: Frame): void {
      for (const entry of open)
        if (entry.key === key && topic?.endsWith(`/${entry.chat}`))
          entry.stop(new DeckError('cancelled', `${String(by)} asked it to stop`))
    },
  }
}
export type Writers = ReturnType<typeof makeWriters>
