// The tasks that sockets hold. Their leases are renewed while the sockets are open. A task that waits for the answer to a request is parked:
// it takes no credit. When the request has ended, the socket gets the task again; its lease is renewed once the socket does something in the
// task's chat, and otherwise runs out.
import { encodeFrame } from '../protocol/encode.ts'
import { uuidListPattern } from '../protocol/topics.ts'
import type { Inbox, Place, Task, Worker } from './inbox-workers.ts'

/** A socket that works. */
export type WorkingSocket = Worker & { push(frame: string): boolean }
export const isSocket = (worker: Worker): worker is WorkingSocket => 'push' in worker

export type LeaseStore = {
  renew(held: { task: string; holder: string; active: boolean }[]): Promise<Map<string, 'held' | 'parked' | 'returned'>>
  returned(citizen: string, held: { task: string; holder: string }[]): Promise<Task[]>
}

const notification = new RegExp(`^& (${uuidListPattern}) missions/[0-9a-f-]{36}/chat/([a-z][a-z0-9_-]{0,31})$`)

/** Gives a socket a task: it holds it now. */
export const giveTo = (socket: WorkingSocket, place: Place, { mission, given }: Task): void => {
  place.held.set(given.task, mission)
  socket.push(encodeFrame('task', given))
}

export const makeLeases = ({
  store,
  inboxes,
  run,
  onError,
}: {
  store: LeaseStore
  inboxes: ReadonlyMap<string, Inbox>
  /** Searches for tasks, since a worker has room. */
  run: (inbox: Inbox) => Promise<void>
  onError: (error: unknown) => void
}) => {
  const placeOf = (worker: Worker): Place | undefined => inboxes.get(worker.actor.sub)?.workers.get(worker)

  /** A socket no longer holds a task. */
  const lost = (worker: Worker, task: string): void => {
    const inbox = inboxes.get(worker.actor.sub)
    const place = inbox?.workers.get(worker)
    place?.returned.delete(task)
    if (place?.parked.delete(task)) return
    if (inbox && place?.held.delete(task)) void run(inbox)
  }

  const park = (inbox: Inbox, { held, parked, returned }: Place, task: string): void => {
    const mission = held.get(task)
    if (mission === undefined) return
    held.delete(task)
    returned.delete(task)
    parked.set(task, mission)
    void run(inbox)
  }

  const giveAgain = async ({ citizen, workers }: Inbox, due: { task: string; worker: Worker }[]): Promise<void> => {
    const tasks = await store.returned(
      citizen,
      due.map(({ task, worker }) => ({ task, holder: worker.id })),
    )
    for (const task of tasks) {
      const { given } = task
      const worker = due.find((one) => one.task === given.task)?.worker
      const place = worker && workers.get(worker)
      if (!place || !isSocket(worker)) continue
      place.parked.delete(given.task)
      // (A run has no chat in which its holder could show that it goes on.)
      if (given.kind === 'message') place.returned.set(given.task, false)
      giveTo(worker, place, task)
    }
  }

  /** Renews the leases of a citizen's tasks; of these only, or of all (undefined). */
  const renewOf = async (inbox: Inbox, only?: ReadonlySet<string>): Promise<void> => {
    const asked = [...inbox.workers].flatMap(([worker, place]) =>
      // (Claims over HTTP hold nothing here: their leases are renewed by their calls.)
      [...place.held.keys(), ...place.parked.keys()]
        .filter((task) => only?.has(task) ?? true)
        .map((task) => ({ task, holder: worker.id, active: place.returned.get(task) === true, worker, place })),
    )
    if (asked.length === 0) return
    const states = await store.renew(asked)
    const due: typeof asked = []
    for (const one of asked) {
      const { task, worker, place } = one
      const state = states.get(task)
      if (state === undefined) lost(worker, task)
      else if (state === 'parked') park(inbox, place, task)
      else if (state === 'held') place.returned.delete(task)
      else if (!place.returned.has(task)) due.push(one)
    }
    if (due.length > 0) await giveAgain(inbox, due)
  }

  return {
    lost,

    /** Renews all leases. */
    async renew(): Promise<void> {
      for (const inbox of [...inboxes.values()]) await renewOf(inbox)
    },

    /** A socket holds these tasks again; their missions are unknown here, so the next token with fewer rights drops them. */
    resumed(worker: Worker, tasks: string[]): void {
      const inbox = inboxes.get(worker.actor.sub)
      const place = inbox?.workers.get(worker)
      if (!inbox || !place || tasks.length === 0) return
      for (const task of tasks) place.held.set(task, '')
      renewOf(inbox, new Set(tasks)).catch(onError)
    },

    /** A socket does something in a chat: it goes on with the tasks there. */
    active(worker: Worker, mission: string, citizen: string): void {
      const place = citizen === worker.actor.sub ? placeOf(worker) : undefined
      for (const task of place?.returned.keys() ?? [])
        if (place?.held.get(task) === mission) place.returned.set(task, true)
    },

    /** A socket's token has fewer rights: it loses the tasks of missions that it may not see. Their leases expire. */
    narrowed(worker: Worker, missions: ReadonlySet<string>): void {
      const place = placeOf(worker)
      for (const tasks of place ? [place.held, place.parked] : [])
        for (const [task, mission] of tasks) if (!missions.has(mission)) tasks.delete(task)
    },

    /** Takes a notification. Returns true if it is of tasks that were parked, or wait no longer. */
    receive(payload: string): boolean {
      if (!payload.startsWith('& ')) return false
      const [, ids = '', citizen = ''] = notification.exec(payload) ?? []
      const inbox = inboxes.get(citizen)
      if (!inbox) return true
      renewOf(inbox, new Set(ids.split(','))).catch(onError)
      // A claim over HTTP gets its task again.
      void run(inbox)
      return true
    },
  }
}
export type Leases = ReturnType<typeof makeLeases>
