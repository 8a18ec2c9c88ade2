// Cancelled tasks: asks the socket that holds a task to stop, on whichever instance it is. A holder over HTTP reads it from the task.
import { encodeFrame } from '../protocol/encode.ts'
import type { DraftWriter } from './ephemeral/draft-registry.ts'
import { makeRelay } from './ephemeral/instance-relay.ts'
import type { Seal } from './ephemeral/seal.ts'

/** `holder`: the session that holds the task. `by`: who cancels it. */
export type TaskCancel = { topic: string; task: string; holder: string; by: string }

export const makeTaskCancels = (options: {
  seal: Seal
  heardSince: (topic: string) => number
  notify: (topics: string[], payloads: string[]) => Promise<unknown>
  onError: (error: unknown) => void
  /** Returns the socket with this session ID, if it works here. */
  worker: (id: string) => DraftWriter | undefined
  /** Returns the keys of the drafts that a socket writes in a chat. */
  drafts: (writer: DraftWriter, topic: string) => string[]
}) => {
  /** Returns false if the holder is not a socket of this instance. */
  const deliver = ({ topic, task, holder, by }: TaskCancel): boolean => {
    const worker = options.worker(holder)
    if (!worker) return false
    // A draft is known to be the task's if its key says so, or if no other task of the socket is named by its key.
    const keys = options.drafts(worker, topic)
    const own = keys.filter((key) => key === `task:${task}` || key === task)
    const others = keys.filter((key) => !key.startsWith('task:'))
    const key = own[0] ?? (others.length === 1 ? others[0] : undefined) ?? null
    worker.push(encodeFrame('cancel', { topic, task, key, by }))
    return true
  }

  const relay = makeRelay<TaskCancel>({ ...options, mark: '^', onReceived: (cancel) => void deliver(cancel) })

  return {
    /** Asks the holder of a task to stop. */
    async send(cancel: TaskCancel): Promise<void> {
      if (!deliver(cancel)) await relay.send([cancel])
    },
    receive: relay.receive,
  }
}
export type TaskCancels = ReturnType<typeof makeTaskCancels>
