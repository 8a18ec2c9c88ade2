// A reply that is being written. The text since the last answer is sent as one delta from the server's offset. `write` never waits,
// and after a reconnect the writer sends the text that the server lacks. `done` stores the reply once under its key; `abort` drops it.
// The whole text is held until then. A second writer under the same key takes over the draft, and the first one fails.
import type { Message, NewMessage } from '../protocol/rows.ts'
import { DeckError } from './errors.ts'
import type { Link } from './link.ts'
import { newKey, sleep } from './async.ts'
import { makeSteps, type Step, type StepStatus } from './reply-steps.ts'
import type { Frame } from './requests.ts'

export type DoneOptions = {
  /** stored instead of the written text */
  message?: string | undefined
  code_blocks?: NewMessage['code_blocks']
  /** what the reply cost, in any form; up to 4 KiB of JSON */
  usage?: Record<string, unknown> | undefined
  /** the inbox task that the reply answers */
  task?: string | undefined
  /** the ID of the message that the reply answers; a reply with a task answers the task's message */
  replyTo?: string | undefined
}
export type Writer = {
  readonly key: string
  /** the whole text so far */
  readonly text: string
  /** Aborted when the reply is cancelled or fails; end it with `done` or `abort`. */
  readonly signal: AbortSignal
  /** Appends to the reply. Throws the server's error if the reply has failed. */
  write(text: string): void
  /**
   * Shows followers a step: a line of what the writer does, up to 200 characters, before its first text, too. The last 50 are stored with the
   * reply. Throws the server's error if the reply has failed.
   */
  activity(line: string, status?: StepStatus): Step
  /** Stores the reply. Resolves to the message once it is committed. */
  done(options?: DoneOptions): Promise<Message>
  /** Drops the reply. */
  abort(): Promise<void>
}
/** A writer with the members that the inbox needs. */
export type Writing = Writer & {
  /** the error that ended the reply */
  readonly failure: unknown
  /** set once `done` or `abort` was called */
  readonly ending: { by: 'done' | 'abort'; over: Promise<void> } | undefined
  fail(error: unknown): void
}

/** The key of the reply to a task: a worker that takes the task over can't store a second reply. */
export const taskKey = (task: string): string => `task:${task}`

/** ms between two deltas: the server forwards them every 40. */
const pace = 20

export const makeWriters = (link: Link) => {
  const open = new Set<{ key: string; chat: string; stop: (reason: unknown) => void }>()

  const write = (topic: string, key = newKey(), task?: string): Writing => {
    const stopping = new AbortController()
    // The caller may name the mission by its number; the server's frames have its UUID.
    const entry = { key, chat: topic.split('/').slice(2).join('/'), stop: (why: unknown) => stopping.abort(why) }
    let text = ''
    let at = 0
    /** the connection on which this writer owns the draft */
    let owned = 0
    let conflicts = 0
    let sent = false
    let saved: Message | undefined
    let failure: unknown
    let ending: Writing['ending']
    let pumping: Promise<void> | undefined
    const steps = makeSteps(() => void (failure || ending || (pumping ??= pump())))
    open.add(entry)

    const fail = (error: unknown): void => {
      failure ??= error
      steps.end()
      open.delete(entry)
      entry.stop(error)
    }

    /** The offset up to which the text can be sent: never half of a surrogate pair. */
    const end = (): number => {
      const last = text.charCodeAt(text.length - 1)
      return last >= 0xd800 && last < 0xdc00 ? text.length - 1 : text.length
    }

    /** Sends one frame from the server's known offset. Resolves to false if the server has another offset. */
    const push = async (to: number, more: Record<string, unknown>): Promise<boolean> => {
      const { session } = link
      // What the server saved may be older than what it has answered.
      if (owned !== 0 && owned !== session) steps.repeat()
      // A frame carries one step: the others go ahead of `done`.
      if ('done' in more && steps.count() > 1) return false
      sent = true
      const step = 'abort' in more ? undefined : steps.next()
      try {
        const { offset, message } = await link.ask<{ offset: number; message?: Message }>({
          type: 'stream',
          topic,
          key,
          ...('message' in more ? {} : { offset: at }),
          ...(to > at ? { delta: text.slice(at, to) } : {}),
          ...(step && { activity: step }),
          ...more,
        })
        owned = session
        conflicts = 0
        if (step) steps.sent(step)
        if (message) saved = message
        else at = offset
        return true
      } catch (error) {
        const { code, offset } = error as DeckError
        // If this writer owned the draft on this connection, another writer has it now. After a reconnect the server's text may be
        // shorter than the offset that it reported before.
        if (code !== 'conflict' || offset === undefined || owned === session || ++conflicts > 5) throw error
        at = offset <= text.length ? offset : 0
        if (at === 0) steps.repeat()
        return false
      }
    }

    const pump = async (): Promise<void> => {
      try {
        while (!ending && !saved && !failure && (end() > at || steps.next())) {
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
        // (If nothing was sent, the server has nothing to abort.)
        if (by === 'done' || sent)
          while (!saved && !(await link.insist(() => push(to, { [by]: true, ...more }))))
            while (by === 'done' && !saved && steps.count() > 1) await link.insist(() => push(Math.min(to, end()), {}))
        open.delete(entry)
        steps.end()
      })()
      ending = { by, over }
      // If storing failed, the reply can still be dropped.
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
      activity(line, status = 'running') {
        if (failure) throw failure as Error
        if (ending) throw new DeckError('conflict', 'this reply was ended before')
        return steps.add(line, status)
      },
      async done({ replyTo, ...options } = {}) {
        const given = Object.entries({ task, reply_to: replyTo, ...options }).filter(([, value]) => value != null)
        await close('done', Object.fromEntries(given))
        return saved as unknown as Message
      },
      abort: () => close('abort'),
    }
  }

  return {
    write,
    /** Takes a frame `cancel`. Its key is null if the server has no draft of the task yet. */
    cancelled({ topic, key, task, by }: Frame): void {
      const wanted = key ?? taskKey(String(task))
      for (const entry of open)
        if (entry.key === wanted && topic?.endsWith(`/${entry.chat}`))
          entry.stop(new DeckError('cancelled', `${String(by)} cancelled the reply`))
    },
  }
}
export type Writers = ReturnType<typeof makeWriters>
