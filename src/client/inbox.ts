// A citizen's inbox: takes its tasks, a bounded number at a time, and answers each by a handler whose reply is streamed and stored
// with the end of the task in one transaction. A task has one key for its reply, so that a worker that takes it over can't store a second one.
// A handler that throws gives its task back for a while that grows with the attempts; what was taken from it ends nothing.
import type { Message } from '../protocol/rows.ts'
import { DeckError } from './errors.ts'
import type { Link } from './link.ts'
import { defer, onAbort } from './async.ts'
import type { Writer, Writers, Writing } from './reply-writer.ts'
import type { Frame } from './requests.ts'

/** `signal` is aborted when somebody cancels the reply, when another may have the task by now, and when the answering ends. */
export type Reply = Writer & {
  /** 1, unless the task was given back or lost before */
  readonly attempt: number
}
/** Answers a message by what it writes or returns; one that does neither ends the task without a reply. */
export type Handler = (message: Message, reply: Reply) => Promise<string | void> | string | void
export type AnswerOptions = {
  /** tasks at a time; 4 if left out */
  concurrency?: number
  /** ends the answering; what is not answered yet is given back at once */
  signal?: AbortSignal
}
type Task = { task: string; topic: string; message: Message; attempt: number }
type Running = { reply: Writing; over: Promise<void>; next: Task | undefined }

/** ms without a connection after which another may have a task */
const lease = 30_000
/** Seconds that a task rests after so many attempts. */
const rest = (attempt: number): number => Math.min(300, 2 ** attempt)
/** The task is another's by now, or gone. */
const lost = (error: unknown): boolean =>
  error instanceof DeckError && ['conflict', 'not_found', 'closed'].includes(error.code)

export const makeInbox = (link: Link, writers: Writers, onFault: (error: unknown) => void) => {
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

    const giveBack = async ({ task, attempt }: Task, reply: Writing, error: unknown): Promise<void> => {
      if (!stopping) onFault(error)
      await reply.abort().catch(() => {})
      await link
        .insist(() => link.ask({ type: 'release', task, after: stopping ? 0 : rest(attempt) }))
        .catch((refused: unknown) => lost(refused) || onFault(refused))
    }

    /** -> whether it is ours no more, and was not ended by us */
    const settle = async (task: Task, reply: Writing): Promise<boolean> => {
      let returned: string | void = undefined
      try {
        returned = await handler(task.message, Object.assign(reply, { attempt: task.attempt }))
      } catch (error) {
        // Of a reply that was cancelled, what there is counts; one that can't be written is looked at below.
        if (!isCancelled(reply) && !reply.failure) {
          await giveBack(task, reply, error)
          return false
        }
      }
      try {
        if (reply.ending?.by === 'done') await reply.ending.over
        else if (reply.failure) throw reply.failure as Error
        else if (returned) await reply.done({ message: returned })
        else if (reply.text && !reply.ending) await reply.done()
        else await link.insist(() => link.ask({ type: 'done', task: task.task }))
      } catch (error) {
        if (lost(error)) {
          // If it is ours after all, nobody else would get it. (If it was given to us again, it goes on.)
          if (!running.get(task.task)?.next) await link.ask({ type: 'release', task: task.task }).catch(() => {})
          return true
        }
        await giveBack(task, reply, error)
      }
      return false
    }

    const start = (task: Task): void => {
      const reply = writers.write(task.topic, `task:${task.task}`, task.task)
      const entry: Running = { reply, next: undefined, over: Promise.resolve() }
      entry.over = settle(task, reply).then((isLost) => {
        running.delete(task.task)
        if (isLost && entry.next && !stopping) start(entry.next)
      })
      running.set(task.task, entry)
    }
    const stopAll = (reason: unknown): void => {
      for (const { reply } of running.values()) reply.fail(reason)
    }

    taker = (task) => {
      const entry = running.get(task.task)
      // Given to us again after a reconnect: it goes on, or begins anew once it turns out that it could not.
      if (entry) entry.next = task
      else if (stopping) link.ask({ type: 'release', task: task.task, after: 0 }).catch(() => {})
      else start(task)
    }

    /** the server's name of the connection by which the tasks came */
    let holder: string | undefined
    /** Asks for tasks; on a new connection for those of the former first: what has been taken up goes on. */
    const request = (): Promise<unknown> => {
      const { sub = name, session } = link.welcome ?? {}
      if (sub !== name) return Promise.reject(new DeckError('forbidden', `this token is ${sub}'s`))
      const resume = holder === session ? undefined : holder
      return link.ask<{ tasks: string[] }>({ type: 'work', credit, ...(resume ? { resume } : {}) }, ({ tasks }) => {
        holder = session
        for (const [task, { reply }] of running)
          if (resume && !tasks.includes(task)) reply.fail(new DeckError('conflict', 'the task is another’s by now'))
      })
    }
    let asking = false
    const ask = async (): Promise<void> => {
      if (asking) return
      asking = true
      // At once, ahead of replies that wait for the connection: they end tasks that it has to hold.
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
      else leaseTimer ??= setTimeout(() => stopAll(new DeckError('conflict', 'the lease of the task ended')), lease)
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
      // First, or what is given back would come again.
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
