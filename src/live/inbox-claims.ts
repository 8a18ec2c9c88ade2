// Claims over HTTP: each is a worker of its citizen's inbox until it has tasks, or its time is over. It holds no connection of the database
// while it waits. Claims of one key on this instance share one worker.
import type { Actor } from '../access/actor.ts'
import { deny, overloaded } from '../protocol/errors.ts'
import type { TaskKind } from '../protocol/client-frames.ts'
import { seenBy, termsName, type Place, type Task, type Worker } from './inbox-workers.ts'

export type ClaimRequest = {
  citizen: string
  actor: Actor
  /** the holder of the tasks */
  holder: string
  /** whether the holder was made from a key: it gets the tasks that it holds again */
  keyed: boolean
  credit: number
  kinds: readonly TaskKind[]
  /** seconds */
  lease: number
  /** ms; 0: the claim ends once all chats were searched */
  wait: number
  /** aborted when the client has disconnected */
  signal: AbortSignal
}
/** `giveBack`: the tasks could not be sent. They are released, unless a claim of the same key got them too. */
export type Claimed = { tasks: Task[]; giveBack(): Promise<void> }

/** One call. */
type Caller = { end(result: Claimed): void; fail(error: unknown): void; patient: boolean }
/** The worker of one call, or of several with one key (`name`). `fault`: of its last run. */
type Waiting = {
  name: string | undefined
  citizen: string
  worker: Worker
  place: Place
  callers: Set<Caller>
  fault: unknown
}

const none = (): Claimed => ({ tasks: [], giveBack: () => Promise.resolve() })

export const makeWaitingClaims = ({
  join,
  leave,
  undo,
  holds,
  fitting,
  limits,
}: {
  /** Opens the citizen's inbox and adds the worker. `live`: LISTEN must hold. */
  join: (citizen: string, worker: Worker, place: Place, live: boolean) => void
  leave: (citizen: string, worker: Worker) => void
  undo: (tasks: Task[]) => Promise<void>
  /** Returns whether the actor's token is neither expired nor revoked. */
  holds: (actor: Actor) => boolean
  /** Returns the first tasks that fit into a response. */
  fitting: (tasks: Task[]) => Task[]
  limits: { claimsWaiting: number; claimsWaitingPerSubject: number }
}) => {
  const shared = new Map<string, Waiting>()
  const callers = new Set<Caller>()
  const perSubject = new Map<string, number>()
  let draining = false

  let entered = 0
  const count = (sub: string, by: 1 | -1): void => {
    entered += by
    const n = (perSubject.get(sub) ?? 0) + by
    if (n > 0) perSubject.set(sub, n)
    else perSubject.delete(sub)
  }

  /** Adds a new worker to the inbox: only a search that begins from now on counts for it. */
  const work = (waiting: Waiting, { citizen, actor, holder, wait }: ClaimRequest): void => {
    leave(citizen, waiting.worker)
    waiting.worker = {
      id: holder,
      actor,
      // A token that has expired or was revoked gets no tasks.
      get closed() {
        return !holds(actor)
      },
    }
    join(citizen, waiting.worker, waiting.place, wait > 0)
  }
  const stop = (waiting: Waiting): void => {
    const { name, citizen, worker } = waiting
    if (name !== undefined && shared.get(name) === waiting) shared.delete(name)
    leave(citizen, worker)
  }

  const start = (request: ClaimRequest, name: string | undefined): Waiting => {
    const { citizen, actor, holder, keyed, credit, kinds, lease } = request
    const waiting: Waiting = {
      name,
      citizen,
      callers: new Set(),
      fault: undefined,
      worker: { id: holder, actor, closed: true },
      place: {
        credit,
        kinds,
        held: new Map(),
        parked: new Map(),
        returned: new Map(),
        lease,
        once: keyed,
        give(tasks) {
          const sent = fitting(tasks)
          let left = waiting.callers.size
          stop(waiting)
          const claimed = { tasks: sent, giveBack: async () => (--left === 0 ? undo(sent) : undefined) }
          for (const caller of waiting.callers) caller.end(claimed)
          return tasks.slice(sent.length)
        },
        passed() {
          waiting.fault = undefined
          for (const caller of waiting.callers) if (!caller.patient) caller.end(none())
        },
        failed(error) {
          waiting.fault = error
          for (const caller of waiting.callers) if (!caller.patient) caller.fail(error)
        },
      },
    }
    if (name !== undefined) shared.set(name, waiting)
    return waiting
  }

  const enter = (request: ClaimRequest): Promise<Claimed> =>
    new Promise((resolve, reject) => {
      const { actor, holder, keyed, kinds, lease, wait, signal, citizen } = request
      // Claims of one key that are made together (groupsOf) are one worker: they get the same tasks.
      const name = keyed ? `${citizen} ${holder} ${termsName({ seen: seenBy(actor), lease, kinds })}` : undefined
      let timer: NodeJS.Timeout | undefined
      const over = (): void => {
        clearTimeout(timer)
        signal.removeEventListener('abort', gone)
        callers.delete(caller)
        if (!waiting.callers.delete(caller) || waiting.callers.size > 0) return
        stop(waiting)
      }
      const caller: Caller = {
        patient: wait > 0,
        end(result) {
          over()
          resolve(result)
        },
        fail(error) {
          over()
          reject(error)
        },
      }
      const gone = (): void => caller.end(none())
      callers.add(caller)
      signal.addEventListener('abort', gone)
      const timeOver = (): void => {
        if (waiting.fault !== undefined) caller.fail(waiting.fault)
        else caller.end(none())
      }
      if (wait > 0) timer = setTimeout(timeOver, wait)
      const known = name === undefined ? undefined : shared.get(name)
      const waiting = known ?? start(request, name)
      waiting.callers.add(caller)
      if (!known || wait === 0) work(waiting, request)
    })

  return {
    /**
     * Claims tasks, and waits for some. Rejects with `rate_limited` or `unavailable` if too many claims wait, and with the database's
     * error if it failed.
     */
    async claim(request: ClaimRequest, open: () => Promise<void>): Promise<Claimed> {
      const { sub } = request.actor
      if ((perSubject.get(sub) ?? 0) >= limits.claimsWaitingPerSubject)
        throw deny('rate_limited', 'too many claims of this subject are waiting: end some of them first', {
          retry_after: 1,
        })
      if (entered >= limits.claimsWaiting) throw overloaded('too many claims are waiting')
      count(sub, 1)
      try {
        await open()
        return draining || request.signal.aborted ? none() : await enter(request)
      } finally {
        count(sub, -1)
      }
    },

    /** Ends all waiting claims without tasks. */
    drain(): void {
      draining = true
      for (const caller of [...callers]) caller.end(none())
    },

    /** Returns the number of claims that wait. */
    count: (): number => callers.size,
  }
}
export type WaitingClaims = ReturnType<typeof makeWaitingClaims>
