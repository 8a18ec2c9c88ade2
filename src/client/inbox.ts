// A citizen's inbox: takes a bounded number of tasks at a time and answers each with a handler. The reply is streamed, and stored in
// one transaction with the end of the task. Each task has one key for its reply, so a worker that takes the task over can't store a
// second reply. If the handler throws, the task is released with a delay that grows with the attempts. If another worker has the task
// by then, this one can't end it. A worker may also take test runs (run-job.ts).
import type { Message, TestRun } from '../protocol/rows.ts'
import { DeckError } from './errors.ts'
import type { Link } from './link.ts'
import { defer, onAbort } from './async.ts'
import type { Ask, AskPeople } from './ask-people.ts'
import { taskKey, type Writers, type Writing } from './reply-writer.ts'
import type { Frame } from './requests.ts'
import type { makeTests } from './resources.ts'
import { cancelOf, makeRunJob, type RunHandler, type RunJob } from './run-job.ts'
import { lost, retryDelay } from './task-handlers.ts'
import type { AnswerOptions, Handler, Handlers, Steps, Task } from './task-handlers.ts'

/** `asking`: requests without an answer yet; the task waits for them. `left`: this worker stopped meanwhile; the task keeps waiting. */
type Running = { work: Writing | RunJob; over: Promise<void>; next: Task | undefined; asking: number; left: boolean }

/** ms without a connection after which another worker may have the task */
const lease = 30_000

export const makeInbox = (
  link: Link,
  writers: Writers,
  askPeople: AskPeople,
  testsOf: (mission: string) => ReturnType<typeof makeTests>,
  onFault: (error: unknown) => void,
) => {
  let taker: ((task: Task) => void) | undefined
  let canceller: ((task: string, by: string) => void) | undefined

  const answer = async (name: string, handlers: Handlers, options: Omit<AnswerOptions, 'run'> = {}): Promise<void> => {
    const { concurrency: credit = handlers.message ? 4 : 1, signal } = options
    // (Left out for messages only: older servers know no kinds.)
    const kinds = handlers.run ? { kinds: handlers.message ? ['message', 'run'] : ['run'] } : {}
    if (taker) throw new DeckError('conflict', 'this deck answers already')
    const running = new Map<string, Running>()
    const over = defer<void>()
    let stopping = false
    let leaseTimer: ReturnType<typeof setTimeout> | undefined

    const release = async ({ task, attempt }: Task, error: unknown): Promise<void> => {
      if (!stopping) onFault(error)
      await link
        .insist(() => link.ask({ type: 'release', task, after: stopping ? 0 : retryDelay(attempt) }))
        .catch((refused: unknown) => lost(refused) || onFault(refused))
    }

    const done = (task: Task): Promise<unknown> => link.insist(() => link.ask({ type: 'done', task: task.task }))

    /**
     * Runs the handler (`act`) and ends the task with what it returned (`end`). Resolves to whether the task was lost: another worker has
     * it, or it is gone.
     */
    const settle = async <T>(task: Task, entry: Running, { act, end, drop }: Steps<T>): Promise<boolean> => {
      const { work } = entry
      const giveUp = (error: unknown): Promise<void> =>
        drop()
          .catch(() => {})
          .then(() => release(task, error))
      let result: T | undefined
      try {
        result = await act()
      } catch (error) {
        // A cancelled reply is stored as far as it was written. Work that failed is handled below.
        if (!cancelOf(work.signal) && !work.failure && !entry.left) {
          await giveUp(error)
          return false
        }
      }
      // The task waits for people: another worker gets it with the answer.
      if (entry.left) return false
      try {
        await end(result)
      } catch (error) {
        if (lost(error)) {
          // If this worker still holds the task, nobody else would get it: release it. (If it was delivered again, it restarts.)
          if (!running.get(task.task)?.next) await link.ask({ type: 'release', task: task.task }).catch(() => {})
          return true
        }
        await giveUp(error)
      }
      return false
    }

    const begin = (task: Task, work: Running['work'], over: (entry: Running) => Promise<boolean>): void => {
      const entry: Running = { work, next: undefined, over: Promise.resolve(), asking: 0, left: false }
      running.set(task.task, entry)
      entry.over = over(entry).then((isLost) => {
        running.delete(task.task)
        if (isLost && entry.next && !stopping) start(entry.next)
      })
    }
    const asks =
      (task: Task, entry: Running) =>
      async (request: Ask): Promise<boolean | string> => {
        entry.asking++
        return askPeople(task, request, entry.work.signal).finally(() => entry.asking--)
      }

    const startMessage = (task: Task, message: Message, handler: Handler): void => {
      const { attempt, request } = task
      const reply = writers.write(task.topic, taskKey(task.task), task.task)
      begin(task, reply, (entry) =>
        settle(task, entry, {
          act: async () => handler(message, Object.assign(reply, { attempt, request, ask: asks(task, entry) })),
          async end(returned) {
            if (reply.ending?.by === 'done') await reply.ending.over
            else if (reply.failure) throw reply.failure as Error
            else if (returned) await reply.done({ message: returned })
            else if (reply.text && !reply.ending) await reply.done()
            else {
              await done(task)
              // Steps without a reply.
              if (!reply.ending) await reply.abort().catch(() => {})
            }
          },
          drop: reply.abort,
        }),
      )
    }
    const startRun = (task: Task, run: TestRun, handler: RunHandler): void => {
      const { attempt } = task
      const work = makeRunJob(link, testsOf(run.mission_id), run)
      const { signal, log } = work
      begin(task, work, (entry) =>
        settle(task, entry, {
          act: async () => handler(run, { attempt, signal, log, ask: asks(task, entry) }),
          async end(result) {
            if (work.failure && !cancelOf(signal)) throw work.failure as Error
            await work.end(result)
            await done(task)
          },
          drop: () => Promise.resolve(),
        }),
      )
    }
    const start = (task: Task): void => {
      const { message, run } = task
      if (message && handlers.message) startMessage(task, message, handlers.message)
      else if (run && handlers.run) startRun(task, run, handlers.run)
      // A task that this worker did not ask for.
      else link.ask({ type: 'release', task: task.task, after: 0 }).catch(() => {})
    }
    const stopAll = (reason: unknown): void => {
      for (const entry of running.values()) {
        entry.left = entry.asking > 0
        entry.work.fail(reason)
      }
    }
    /** Leases have ended, but not those of tasks that wait for people. */
    const stopLeased = (): void => {
      for (const { work, asking } of running.values())
        if (asking === 0) work.fail(new DeckError('conflict', 'the lease of the task ended'))
    }
    // (A cancelled reply is the writers': it has a key.)
    canceller = (task, by) => {
      const work = running.get(task)?.work
      if (work && !('key' in work)) work.fail(new DeckError('cancelled', `cancelled by ${by}`))
    }

    taker = (task) => {
      const entry = running.get(task.task)
      // Delivered again after a reconnect, or since its request has ended: the running handler continues. If its task was lost, the
      // handler starts again.
      if (entry) {
        entry.next = task
        // The server renews the lease of a task that waited once its worker does something in the chat.
        if (task.request && task.message) link.ask({ type: 'typing', topic: task.topic, on: false }).catch(() => {})
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
      const frame = { type: 'work', credit, ...kinds, ...(resume ? { resume } : {}) }
      return link.ask<{ tasks: string[] }>(frame, ({ tasks }) => {
        holder = session
        for (const [task, { work }] of running)
          if (resume && !tasks.includes(task)) work.fail(new DeckError('conflict', 'another worker has the task'))
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
      const quiet = link.ask({ type: 'work', credit: 0, ...kinds }).catch(() => {})
      stopAll(signal?.reason ?? new DeckError('closed', 'the answering ended'))
      await quiet
      await Promise.all([...running.values()].map(({ over }) => over))
      taker = canceller = undefined
    }
  }

  return {
    answer,
    take: (frame: Frame): void => taker?.(frame as unknown as Task),
    /** Takes a frame `cancel`. */
    cancelled: ({ task, by }: Frame): void => canceller?.(String(task), String(by)),
  }
}
export type Inbox = ReturnType<typeof makeInbox>
