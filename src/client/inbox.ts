// A citizen's inbox: takes a bounded number of tasks at a time and answers each with a handler. The reply is streamed, and stored in
// one transaction with the end of the task. Each task has one key for its reply, so a worker that takes the task over can't store a
// second reply. If the handler throws, the task is released with a delay that grows with the attempts. If another worker has the task
// by then, this one can't end it.
import type { Request } from '../protocol/requests.ts'
import type { Message } from '../protocol/rows.ts'
import { DeckError } from './errors.ts'
import type { Link } from './link.ts'
import { defer, onAbort } from './async.ts'
import type { Ask, AskPeople } from './ask-people.ts'
import { taskKey, type Writer, type Writers, type Writing } from './reply-writer.ts'
import type { Frame } from './requests.ts'

/** `signal` is aborted when the reply is cancelled, when another worker may have the task, and when `answer` ends. */
export type Reply = Writer & {
  /** 1 at first; higher if the task was released or its lease ended before */
  readonly attempt: number
  /** the request to people that ended while a former worker had the task */
  readonly request: Request | undefined
  /**
   * Asks people, and resolves to the answer. The task waits meanwhile: it takes none of the concurrency, and no other worker gets it. Rejects
   * with `expired` or `withdrawn` if the request ended without an answer.
   */
  ask(request: Ask): Promise<boolean | string>
}
/** Writes a reply or returns one. A handler that does neither ends the task without a reply. */
export type Handler = (message: Message, reply: Reply) => Promise<string | void> | string | void
export type AnswerOptions = {
  /** concurrent tasks; 4 if left out */
  concurrency?: number
  /** ends the answering; unfinished tasks are released at once */
  signal?: AbortSignal
}
type Task = { task: string; topic: string; message: Message; attempt: number; request?: Request }
/** `asking`: requests without an answer yet; the task waits for them. `left`: this worker stopped meanwhile; the task keeps waiting. */
type Running = { reply: Writing; over: Promise<void>; next: Task | undefined; asking: number; left: boolean }

/** ms without a connection after which another worker may have the task */
const lease = 30_000
/** Seconds until a released task is delivered again, by its number of attempts. */
const retryDelay = (attempt: number): number => Math.min(300, 2 ** attempt)
/** Whether the error means that another worker has the task, or that it no longer exists. */
const lost = (error: unknown): boolean =>
  error instanceof DeckError && ['conflict', 'not_found', 'closed'].includes(error.code)

export const makeInbox = (link: Link, writers: Writers, askPeople: AskPeople, onFault: (error: unknown) => void) => {
  let taker: ((task: Task) => void) | undefined

  const answer = async (name: string, handler: Handler, options: AnswerOptions = {}): Promise<void> => {
    const { concurrency: credit = 4, signal } = options
    if (taker) throw new DeckError('conflict', 'this deck answers already')
    const running = new Map<string, Running>()
    const over = defer<void>()
    let stopping = false
    let leaseTimer: ReturnType<typeof setTimeout> | undefined

    const isCancelled = ({ signal: { reason } }: Writing): boolean =>
      reason instanceof DeckError && reason.code === 'cancelled'

    const release = async ({ task, attempt }: Task, { reply }: Running, error: unknown): Promise<void> => {
      if (!stopping) onFault(error)
      await reply.abort().catch(() => {})
      await link
        .insist(() => link.ask({ type: 'release', task, after: stopping ? 0 : retryDelay(attempt) }))
        .catch((refused: unknown) => lost(refused) || onFault(refused))
    }

    /** Runs the handler and ends the task. Resolves to whether the task was lost: another worker has it, or it is gone. */
    const settle = async (task: Task, entry: Running): Promise<boolean> => {
      const { reply } = entry
      const ask = async (request: Ask): Promise<boolean | string> => {
        entry.asking++
        return askPeople(task, request, reply.signal).finally(() => entry.asking--)
      }
      let returned: string | void = undefined
      try {
        const { attempt, request } = task
        returned = await handler(task.message, Object.assign(reply, { attempt, request, ask }))
      } catch (error) {
        // A cancelled reply is stored as far as it was written. A reply that failed is handled below.
        if (!isCancelled(reply) && !reply.failure && !entry.left) {
          await release(task, entry, error)
          return false
        }
      }
      // The task waits for people: another worker gets it with the answer.
      if (entry.left) return false
      try {
        if (reply.ending?.by === 'done') await reply.ending.over
        else if (reply.failure) throw reply.failure as Error
        else if (returned) await reply.done({ message: returned })
        else if (reply.text && !reply.ending) await reply.done()
        else {
          await link.insist(() => link.ask({ type: 'done', task: task.task }))
          // Steps without a reply.
          if (!reply.ending) await reply.abort().catch(() => {})
        }
      } catch (error) {
        if (lost(error)) {
          // If this worker still holds the task, nobody else would get it: release it. (If it was delivered again, it restarts.)
          if (!running.get(task.task)?.next) await link.ask({ type: 'release', task: task.task }).catch(() => {})
          return true
        }
        await release(task, entry, error)
      }
      return false
    }

    const start = (task: Task): void => {
      const reply = writers.write(task.topic, taskKey(task.task), task.task)
      const entry: Running = { reply, next: undefined, over: Promise.resolve(), asking: 0, left: false }
      entry.over = settle(task, entry).then((isLost) => {
        running.delete(task.task)
        if (isLost && entry.next && !stopping) start(entry.next)
      })
      running.set(task.task, entry)
    }
    const stopAll = (reason: unknown): void => {
      for (const entry of running.values()) {
        entry.left = entry.asking > 0
        entry.reply.fail(reason)
      }
    }
    /** Leases have ended, but not those of tasks that wait for people. */
    const stopLeased = (): void => {
      for (const { reply, asking } of running.values())
        if (asking === 0) reply.fail(new DeckError('conflict', 'the lease of the task ended'))
    }

    taker = (task) => {
      const entry = running.get(task.task)
      // Delivered again after a reconnect, or since its request has ended: the running handler continues. If its task was lost, the
      // handler starts again.
      if (entry) {
        entry.next = task
        // The server renews the lease of a task that waited once its worker does something in the chat.
        if (task.request) link.ask({ type: 'typing', topic: task.topic, on: false }).catch(() => {})
      } else if (stopping) link.ask({ type: 'release', task: task.task, after: 0 }).catch(() => {})
      else start(task)
    }

    /** the session ID of the connection on which the tasks were received */
    let holder: string | undefined
    /** Requests tasks. On a new connection it resumes the tasks of the previous one. */
    const request = (): Promise<unknown> => {
      const { sub = name, session } = link.welcome ?? {}
      if (sub !== name) return Promise.reject(new DeckError('forbidden', `this token is ${sub}'s`))
      const resume = holder === session ? undefined : holder
      return link.ask<{ tasks: string[] }>({ type: 'work', credit, ...(resume ? { resume } : {}) }, ({ tasks }) => {
        holder = session
        for (const [task, { reply }] of running)
          if (resume && !tasks.includes(task)) reply.fail(new DeckError('conflict', 'another worker has the task'))
      })
    }
    let asking = false
    const ask = async (): Promise<void> => {
      if (asking) return
      asking = true
      // At once, ahead of replies that wait for the connection: the connection must hold the tasks that they end.
      let first = link.state === 'open' ? request() : undefined
      first?.catch(() => {})
      try {
        await link.insist(() => {
          const begun = first
          first = undefined
          return begun ?? request()
        }, signal)
      } catch (error) {
        over.reject(error)
      }
      asking = false
    }

    const forgetState = link.onState((state) => {
      if (state === 'open' || state === 'closed') {
        clearTimeout(leaseTimer)
        leaseTimer = undefined
      }
      if (state === 'open') void ask()
      else if (state === 'closed') over.reject(link.reason)
      else leaseTimer ??= setTimeout(stopLeased, lease)
    })
    const forgetSignal = onAbort([signal], () => over.resolve())
    void ask()
    try {
      await over.promise
    } catch (error) {
      // The caller aborted the signal or closed the deck.
      if (error !== undefined && error !== signal?.reason) throw error
    } finally {
      stopping = true
      forgetState()
      forgetSignal()
      clearTimeout(leaseTimer)
      // First: otherwise released tasks would be delivered again.
      const quiet = link.ask({ type: 'work', credit: 0 }).catch(() => {})
      stopAll(signal?.reason ?? new DeckError('closed', 'the answering ended'))
      await quiet
      await Promise.all([...running.values()].map(({ over }) => over))
      taker = undefined
    }
  }

  return { answer, take: (frame: Frame): void => taker?.(frame as unknown as Task) }
}
export type Inbox = ReturnType<typeof makeInbox>
