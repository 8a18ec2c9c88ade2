// Inboxes: the sockets of this instance that work for citizens, their credit, and the tasks that they hold.
// Notifications name the chats that may have new tasks. Tasks found there are leased to the sockets in turn, up to each socket's
// credit. A socket's leases are renewed while it is open. Once it has closed they expire, and other workers of the citizen, on any
// instance, get its tasks.
import { encodeFrame } from '../protocol/encode.ts'
import type { Message } from '../protocol/rows.ts'
import { formatTopic, topicParts } from '../protocol/topics.ts'
import { groupsOf, hasRoom, mayTake, rotate, turns, type Seen, type Worker, type Workers } from './inbox-workers.ts'

type Task = { task: string; holder: string; attempt: number; lease_until: string; message: Message }

type Inbox = {
  citizen: string
  workers: Workers
  /** missions whose chats may have new tasks; undefined: any mission */
  unsearched: Set<string> | undefined
  running: boolean
  /** requested again during a run */
  again: boolean
}

// Tasks claimed in one statement; missions that are searched by ID. If more missions may have new tasks, all are searched.
const mostClaims = 200
const mostUnsearched = 500
// ms between two polls for expired leases and due tasks, and between two rounds of housekeeping.
const pollLeasesEvery = 1000
const tidyEvery = 600_000

export const makeInboxes = (options: {
  store: {
    open(citizen: string): Promise<void>
    find(citizen: string, missions: string[] | undefined): Promise<boolean>
    claim(citizen: string, holders: string[], seen: Seen): Promise<Task[]>
    undo(tasks: Task[]): Promise<void>
    renew(held: { task: string; holder: string }[]): Promise<Set<string>>
    tidy(): Promise<void>
  }
  /** Listens on the channels of all missions while a socket works here. Resolves once LISTEN is active. */
  followAll: () => Promise<void>
  unfollowAll: () => void
  onError: (error: unknown) => void
  /** ms between two polls of all chats: notifications may be lost */
  pollEvery: number
  /** ms between two renewals of leases */
  renewEvery: number
}) => {
  const { store, onError } = options
  const inboxes = new Map<string, Inbox>()
  const timers: NodeJS.Timeout[] = []
  let closed = false

  const give = ({ task, attempt, lease_until, message }: Task, worker: Worker): void => {
    const { mission_id, citizen } = message
    const topic = formatTopic({ kind: 'chat', mission: { id: mission_id }, citizen }, mission_id)
    worker.push(encodeFrame('task', { topic, task, kind: 'message', attempt, lease_until, message }))
  }

  /** Claims tasks for the sockets and sends them. Resolves with true if there may be more. */
  const claim = async (inbox: Inbox): Promise<boolean> => {
    let more = false
    for (const { seen, group } of groupsOf(inbox.workers)) {
      const holders = turns(group, mostClaims)
      if (holders.length === 0) continue
      const tasks = await store.claim(inbox.citizen, holders, seen)
      const lost: Task[] = []
      for (const task of tasks) {
        const [worker, place] = group.find(([{ id }]) => id === task.holder) ?? []
        // The worker's token may have changed meanwhile.
        const may = worker && inbox.workers.get(worker) === place && mayTake(worker.actor, seen)
        if (!worker || !place || !may || worker.closed || closed) lost.push(task)
        else {
          place.held.set(task.task, task.message.mission_id)
          give(task, worker)
        }
      }
      rotate(inbox.workers, group.slice(0, tasks.length))
      if (lost.length > 0) await store.undo(lost)
      more ||= tasks.length === holders.length
    }
    return more
  }

  const find = async (inbox: Inbox): Promise<boolean> => {
    const { unsearched } = inbox
    if (unsearched?.size === 0) return false
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
      while (inbox.again && !closed && hasRoom(inbox.workers)) {
        inbox.again = false
        if (await find(inbox)) {
          inbox.unsearched = undefined
          inbox.again = true
        }
        if (await claim(inbox)) inbox.again = true
      }
    } catch (error) {
      // The next poll, within a second, retries.
      onError(error)
    }
    inbox.running = false
  }

  const poll = (all: boolean): void => {
    for (const inbox of inboxes.values()) {
      if (all) inbox.unsearched = undefined
      if (hasRoom(inbox.workers)) void run(inbox)
    }
  }

  const renew = async (): Promise<void> => {
    // Claimed tasks whose claim got no answer are not renewed: their leases expire.
    const asked = [...inboxes.values()].flatMap(({ workers }) =>
      [...workers].flatMap(([worker, place]) =>
        [...place.held.keys()].map((task) => ({ task, holder: worker.id, worker })),
      ),
    )
    if (asked.length === 0) return
    const renewed = await store.renew(asked)
    for (const { task, worker } of asked) if (!renewed.has(task)) ended(worker, task)
  }

  /** A socket no longer holds a task. */
  const ended = (worker: Worker, task: string): void => {
    const inbox = inboxes.get(worker.actor.sub)
    if (inbox?.workers.get(worker)?.held.delete(task)) void run(inbox)
  }

  let following = Promise.resolve()
  const start = (): void => {
    following = options.followAll()
    timers.push(
      setInterval(() => poll(false), pollLeasesEvery),
      setInterval(() => poll(true), options.pollEvery),
      setInterval(() => void renew().catch(onError), options.renewEvery),
      setInterval(() => void store.tidy().catch(onError), tidyEvery * (0.75 + Math.random() / 2)),
    )
  }
  const stop = (): void => {
    for (const timer of timers.splice(0)) clearInterval(timer)
    options.unfollowAll()
  }

  return {
    /** A socket starts to work for its citizen; the citizen's inbox is created if missing. Resolves once LISTEN holds. */
    async open(worker: Worker): Promise<void> {
      const { sub: citizen } = worker.actor
      let inbox = inboxes.get(citizen)
      if (!inbox) {
        if (inboxes.size === 0) start()
        inbox = { citizen, workers: new Map(), unsearched: undefined, running: false, again: false }
        inboxes.set(citizen, inbox)
      }
      if (!inbox.workers.has(worker)) inbox.workers.set(worker, { credit: 0, held: new Map() })
      await Promise.all([store.open(citizen), following])
    },

    /** Sets the number of tasks that a socket takes at a time; `tasks` are those that it resumes. */
    work(worker: Worker, credit: number, tasks: string[]): void {
      const inbox = inboxes.get(worker.actor.sub)
      const place = inbox?.workers.get(worker)
      if (!inbox || !place) return
      place.credit = credit
      // Their missions are unknown here, so the next token with fewer rights drops them.
      for (const task of tasks) place.held.set(task, '')
      void run(inbox)
    },

    ended,

    /** A socket's token has fewer rights: it loses the tasks of missions that it may not see. Their leases expire. */
    narrowed(worker: Worker): void {
      const { role, missions } = worker.actor
      if (role !== 'citizen') return this.gone(worker)
      const place = inboxes.get(worker.actor.sub)?.workers.get(worker)
      if (!place || missions === undefined || missions === '*') return
      for (const [task, mission] of place.held) if (!missions.has(mission)) place.held.delete(task)
    },

    /** A socket has closed; its leases expire. */
    gone(worker: Worker): void {
      const inbox = inboxes.get(worker.actor.sub)
      if (!inbox?.workers.delete(worker) || inbox.workers.size > 0) return
      inboxes.delete(inbox.citizen)
      if (inboxes.size === 0) stop()
    },

    /** Returns the socket with this session ID, if it works here. */
    worker(id: string): Worker | undefined {
      for (const { workers } of inboxes.values())
        for (const worker of workers.keys()) if (worker.id === id) return worker
      return undefined
    },

    /** A chat has new messages. */
    saved(topic: string): void {
      if (inboxes.size === 0) return
      const { mission, citizen } = topicParts(topic)
      const inbox = citizen === null ? undefined : inboxes.get(citizen)
      if (!inbox) return
      if (inbox.unsearched && inbox.unsearched.size < mostUnsearched) inbox.unsearched.add(mission)
      else inbox.unsearched = undefined
      if (hasRoom(inbox.workers)) void run(inbox)
    },

    /** Polls all chats: LISTEN was interrupted, so notifications may have been lost. */
    check: (): void => poll(true),

    /** Returns the number of tasks that sockets here hold. */
    held(): number {
      let sum = 0
      for (const { workers } of inboxes.values()) for (const { held } of workers.values()) sum += held.size
      return sum
    },

    close(): void {
      closed = true
      if (inboxes.size > 0) stop()
      inboxes.clear()
    },
  }
}
export type Inboxes = ReturnType<typeof makeInboxes>
