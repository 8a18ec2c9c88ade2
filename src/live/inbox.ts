// Inboxes: the workers of this instance, their credit, and the tasks that sockets hold. A worker is a socket, or a claim over HTTP
// (inbox-claims.ts). Notifications name the chats that may have new tasks. Tasks found there are leased to the workers in turn, up to each
// worker's credit. A socket's leases are renewed while it is open (inbox-leases.ts). Once it has closed they expire, and other workers of the
// citizen, on any instance, get its tasks.
import type { TaskKind } from '../protocol/client-frames.ts'
import { topicParts } from '../protocol/topics.ts'
import { makeWaitingClaims, type ClaimRequest } from './inbox-claims.ts'
import { giveTo, isSocket, makeLeases, type LeaseStore, type WorkingSocket } from './inbox-leases.ts'
import { makeListening } from './inbox-listening.ts'
import { makeRun, type RunStore } from './inbox-runs.ts'
import { hasRoom, mayTake, type Inbox, type Place, type Seen, type Task, type Worker } from './inbox-workers.ts'

// Missions that are searched by ID. If more missions may have new tasks, all are searched.
const mostUnsearched = 500
// ms between two polls for expired leases and due tasks, and between two rounds of housekeeping.
const pollLeasesEvery = 1000
const tidyEvery = 600_000
// ms for which an inbox without workers is kept after a claim over HTTP, since agents claim again and again.
const emptyFor = 10_000

export const makeInboxes = (options: {
  store: RunStore &
    LeaseStore & {
      open(citizen: string, kinds: readonly TaskKind[]): Promise<void>
      note(citizens: string[], runners: string[]): Promise<void>
      tidy(after?: string): Promise<string | undefined>
    }
  /** Listens on the channels of all missions while a worker is here. Resolves once LISTEN is active. */
  followAll: () => Promise<void>
  unfollowAll: () => void
  onError: (error: unknown) => void
  /** ms between two polls of all chats: notifications may be lost */
  pollEvery: number
  /** ms between two renewals of leases */
  renewEvery: number
  /** ms between two records that a citizen's workers are here */
  noteEvery: number
  claims: Pick<Parameters<typeof makeWaitingClaims>[0], 'holds' | 'fitting' | 'limits'>
}) => {
  const { store, onError } = options
  const listening = makeListening({ note: store.note, onError })
  const inboxes = new Map<string, Inbox>()
  const timers: NodeJS.Timeout[] = []
  let closed = false

  /** Returns the place of a socket that has no credit yet. */
  const placeOf = (socket: WorkingSocket): Place => {
    const place: Place = {
      credit: 0,
      kinds: [],
      held: new Map(),
      parked: new Map(),
      returned: new Map(),
      give(tasks: Task[], seen: Seen): Task[] {
        // The socket's token may have changed meanwhile.
        if (!mayTake(socket.actor, seen)) return tasks
        for (const task of tasks) giveTo(socket, place, task)
        return []
      },
    }
    return place
  }

  const run = makeRun({ store, onError, isClosed: () => closed })
  const leases = makeLeases({ store, inboxes, run, onError })

  const poll = (all: boolean): void => {
    const old = performance.now() - emptyFor
    for (const inbox of inboxes.values()) {
      if (all) inbox.unsearched = undefined
      if (hasRoom(inbox.workers)) void run(inbox)
      else if (inbox.workers.size === 0 && inbox.claimedAt < old) forget(inbox)
    }
  }
  const forget = ({ citizen }: Inbox): void => {
    inboxes.delete(citizen)
    if (inboxes.size === 0) stop()
  }

  const tidy = async (): Promise<void> => {
    for (let after = await store.tidy(); after !== undefined && !closed;) after = await store.tidy(after)
  }

  /** A socket no longer holds a task. */
  const ended = (worker: Worker, task: string): void => {
    listening.used(worker.actor.sub)
    leases.lost(worker, task)
  }

  let following = Promise.resolve()
  const start = (): void => {
    following = options.followAll()
    timers.push(
      setInterval(() => poll(false), pollLeasesEvery),
      setInterval(() => poll(true), options.pollEvery),
      setInterval(() => void leases.renew().catch(onError), options.renewEvery),
      setInterval(() => {
        for (const { citizen, workers } of inboxes.values())
          for (const { credit, kinds, held, parked } of workers.values())
            if (credit > 0 || held.size + parked.size > 0) listening.used(citizen, credit > 0 ? kinds : [])
      }, options.noteEvery),
      setInterval(() => void tidy().catch(onError), tidyEvery * (0.75 + Math.random() / 2)),
    )
  }
  const stop = (): void => {
    for (const timer of timers.splice(0)) clearInterval(timer)
    options.unfollowAll()
  }

  const inboxOf = (citizen: string): Inbox => {
    let inbox = inboxes.get(citizen)
    if (!inbox) {
      if (inboxes.size === 0) start()
      inbox = { citizen, workers: new Map(), unsearched: undefined, running: false, again: false, claimedAt: -Infinity }
      inboxes.set(citizen, inbox)
    }
    return inbox
  }
  const leave = (citizen: string, worker: Worker): void => {
    const inbox = inboxes.get(citizen)
    if (!inbox?.workers.delete(worker)) return
    const now = performance.now()
    if (!isSocket(worker)) inbox.claimedAt = now
    if (inbox.workers.size === 0 && inbox.claimedAt < now - emptyFor) forget(inbox)
  }
  const claims = makeWaitingClaims({
    ...options.claims,
    undo: store.undo,
    leave,
    join(citizen, worker, place, live) {
      const inbox = inboxOf(citizen)
      inbox.workers.set(worker, place)
      // A claim that does not wait can't rely on notifications that have not arrived yet.
      if (!live) inbox.unsearched = undefined
      void run(inbox)
    },
  })

  return {
    /** A socket starts to work for its citizen. Resolves once LISTEN holds. */
    async open(socket: WorkingSocket, kinds: readonly TaskKind[]): Promise<void> {
      const { sub: citizen } = socket.actor
      const { workers } = inboxOf(citizen)
      if (!workers.has(socket)) workers.set(socket, placeOf(socket))
      await Promise.all([store.open(citizen, kinds), following])
    },

    /** Claims tasks over HTTP. */
    claim(request: ClaimRequest) {
      const { citizen, kinds, wait } = request
      return claims.claim(request, async () => {
        await store.open(citizen, kinds)
        if (wait === 0) return
        inboxOf(citizen).claimedAt = performance.now()
        await following
      })
    },

    /** Ends the claims that wait. */
    drain: claims.drain,

    /** Something works for the citizen. */
    used: listening.used,

    /** Sets the number of tasks that a socket takes at a time, and their kinds; `tasks` are those that it resumes. */
    work(worker: Worker, { credit, kinds }: { credit: number; kinds: readonly TaskKind[] }, tasks: string[]): void {
      const inbox = inboxes.get(worker.actor.sub)
      const place = inbox?.workers.get(worker)
      if (!inbox || !place) return
      place.credit = credit
      place.kinds = kinds
      listening.used(inbox.citizen, kinds)
      leases.resumed(worker, tasks)
      void run(inbox)
    },

    ended,
    active: leases.active,

    /** A socket's token has fewer rights: it loses the tasks of missions that it may not see. Their leases expire. */
    narrowed(worker: Worker): void {
      const { role, missions } = worker.actor
      if (role !== 'citizen') return this.gone(worker)
      if (missions !== undefined && missions !== '*') leases.narrowed(worker, missions)
    },

    /** A socket has closed; its leases expire. */
    gone(worker: Worker): void {
      leave(worker.actor.sub, worker)
    },

    /** Returns the socket with this session ID, if it works here. */
    worker(id: string): WorkingSocket | undefined {
      for (const { workers } of inboxes.values())
        for (const worker of workers.keys()) if (worker.id === id && isSocket(worker)) return worker
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

    /** Takes a notification. Returns true if it is of tasks that were parked, or wait no longer. */
    receive: leases.receive,

    /** Polls all chats: LISTEN was interrupted, so notifications may have been lost. */
    check(): void {
      poll(true)
      void leases.renew().catch(onError)
    },

    /** Returns the number of tasks that sockets here hold. */
    held(): number {
      let sum = 0
      for (const { workers } of inboxes.values()) for (const { held } of workers.values()) sum += held.size
      return sum
    },

    /** Returns the number of claims that wait here. */
    waiting: claims.count,

    close(): void {
      closed = true
      claims.drain()
      listening.close()
      if (inboxes.size > 0) stop()
      inboxes.clear()
    },
  }
}
export type Inboxes = ReturnType<typeof makeInboxes>
