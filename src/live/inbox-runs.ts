// Runs of an inbox: new tasks are found in the chats that may have some, and leased to the workers that have room. One run at a time; a
// request during a run repeats it.
import { deny } from '../protocol/errors.ts'
import {
  groupsOf,
  hasRoom,
  rotate,
  takesMessages,
  turns,
  type Inbox,
  type Task,
  type Terms,
  type Worker,
} from './inbox-workers.ts'

export type RunStore = {
  find(citizen: string, missions: string[] | undefined): Promise<boolean>
  claim(citizen: string, holders: string[], terms: Terms): Promise<Task[]>
  undo(tasks: Task[]): Promise<void>
}

/** Tasks claimed in one statement. */
const mostClaims = 200

export const makeRun = ({
  store,
  onError,
  isClosed,
}: {
  store: RunStore
  onError: (error: unknown) => void
  isClosed: () => boolean
}) => {
  /** Claims tasks for the workers and gives them. `present`: those that were here before the chats were searched. Resolves with true if there may be more. */
  const claim = async (inbox: Inbox, present: ReadonlySet<Worker>): Promise<boolean> => {
    let more = false
    for (const [{ closed }, place] of [...inbox.workers])
      if (closed) place.failed?.(deny('unauthorized', 'the token has expired or was revoked'))
    for (const { terms, group } of groupsOf(inbox.workers)) {
      const holders = turns(group, mostClaims)
      if (holders.length === 0) continue
      const tasks = await store.claim(inbox.citizen, holders, terms)
      const given = new Map<string, Task[]>()
      for (const task of tasks) given.set(task.holder, [...(given.get(task.holder) ?? []), task])
      const lost: Task[] = []
      for (const [worker, place] of group) {
        const own = given.get(worker.id) ?? []
        const here = inbox.workers.get(worker) === place && !worker.closed && !isClosed()
        if (own.length > 0) lost.push(...(here ? place.give(own, terms.seen) : own))
        else if (here && tasks.length < holders.length && present.has(worker)) place.passed?.()
      }
      rotate(inbox.workers, group.slice(0, tasks.length))
      if (lost.length > 0) await store.undo(lost)
      more ||= tasks.length >= holders.length
    }
    return more
  }

  const find = async (inbox: Inbox): Promise<boolean> => {
    const { unsearched } = inbox
    if (unsearched?.size === 0 || !takesMessages(inbox.workers)) return false
    inbox.unsearched = new Set()
    try {
      return await store.find(inbox.citizen, unsearched && [...unsearched])
    } catch (error) {
      inbox.unsearched = undefined
      throw error
    }
  }

  const run = async (inbox: Inbox): Promise<void> => {
    inbox.again = true
    if (inbox.running) return
    inbox.running = true
    try {
      while (inbox.again && !isClosed() && hasRoom(inbox.workers)) {
        inbox.again = false
        const present = new Set(inbox.workers.keys())
        const unfinished = await find(inbox)
        if (unfinished) {
          inbox.unsearched = undefined
          inbox.again = true
        }
        if (await claim(inbox, unfinished ? new Set() : present)) inbox.again = true
      }
    } catch (error) {
      // The next poll, within a second, retries.
      onError(error)
      for (const place of [...inbox.workers.values()]) place.failed?.(error)
    }
    inbox.running = false
  }
  return run
}
