// The workers of one citizen: sockets that work, and claims over HTTP that wait for tasks. How many tasks each may take, on which terms, and
// their order.
import type { Actor } from '../access/actor.ts'
import type { TaskKind } from '../protocol/client-frames.ts'
import type { GivenTask } from '../protocol/inbox.ts'

/** A leased task, and the ID of its mission. */
export type Task = { holder: string; mission: string; given: GivenTask }

/** A socket or a claim. `id`: the holder of its tasks. */
export type Worker = {
  readonly id: string
  readonly actor: Actor
  readonly closed: boolean
}

/** The missions that a worker may see; undefined: all. */
export type Seen = ReadonlySet<string> | undefined
/** How tasks are claimed: see database/inbox. */
export type Terms = { seen: Seen; lease?: number; once?: boolean; kinds: readonly TaskKind[] }

/** A worker's place in its citizen's inbox. `held`: the mission ID of each task that a socket holds; see inbox-leases.ts. */
export type Place = {
  credit: number
  kinds: readonly TaskKind[]
  held: Map<string, string>
  /** tasks that wait for the answer to a request, with their missions: they take no credit */
  parked: Map<string, string>
  /** of `held`: tasks that waited, and whether the socket has done something for them since */
  returned: Map<string, boolean>
  /** undefined for a socket */
  lease?: number
  once?: boolean
  /** Gives tasks to the worker, claimed for what `seen` says. Returns those that it did not take. */
  give(tasks: Task[], seen: Seen): Task[]
  /** All chats were searched since the worker came, and no task is left for it. */
  passed?(): void
  failed?(error: unknown): void
}
export type Workers = Map<Worker, Place>
/** A citizen's inbox on this instance. */
export type Inbox = {
  citizen: string
  workers: Workers
  /** missions whose chats may have new tasks; undefined: any mission */
  unsearched: Set<string> | undefined
  running: boolean
  /** requested again during a run */
  again: boolean
  /** when a claim over HTTP was last here (performance.now) */
  claimedAt: number
}
export type Group = { terms: Terms; group: [Worker, Place][] }

/** Returns whether a worker may take one more task. */
export const hasRoom = (workers: Workers): boolean =>
  [...workers.values()].some(({ credit, held }) => held.size < credit)

/** Returns whether a worker takes messages: the citizen's chats are searched for them only then. */
export const takesMessages = (workers: Workers): boolean =>
  [...workers.values()].some(({ kinds }) => kinds.includes('message'))

/** Returns the workers' IDs in turn, one for each task that a worker may take, at most `most`. */
export const turns = (group: [Worker, Place][], most: number): string[] => {
  const list: string[] = []
  for (let n = 0; list.length < most; n++) {
    const ready = group.filter(([, { credit, held }]) => held.size + n < credit)
    if (ready.length === 0) break
    list.push(...ready.map(([{ id }]) => id))
  }
  return list.slice(0, most)
}

/** Moves workers that were served to the end of the order. */
export const rotate = (workers: Workers, served: [Worker, Place][]): void => {
  for (const [worker, place] of served) if (workers.delete(worker)) workers.set(worker, place)
}

export const seenBy = ({ role, missions }: Actor): Seen => (role === 'admin' || missions === '*' ? undefined : missions)

/** The same text for the same terms. */
export const termsName = ({ seen, lease, once, kinds }: Terms): string =>
  `${seen ? [...seen].sort().join(' ') : '*'} ${lease} ${once} ${[...kinds].sort().join(' ')}`

/** Groups the workers that may see the same missions and claim on the same terms: one claim serves the group. */
export const groupsOf = (workers: Workers): Group[] => {
  const all = new Map<string, Group>()
  for (const entry of workers) {
    const [worker, { lease, once, kinds }] = entry
    if (worker.closed) continue
    const terms = {
      seen: seenBy(worker.actor),
      kinds,
      ...(lease === undefined ? {} : { lease }),
      ...(once === undefined ? {} : { once }),
    }
    const name = termsName(terms)
    const known = all.get(name)
    if (known) known.group.push(entry)
    else all.set(name, { terms, group: [entry] })
  }
  return [...all.values()]
}

/** Returns whether an actor may take tasks that were claimed for workers that see `seen`. */
export const mayTake = ({ role, missions }: Actor, seen: Seen): boolean =>
  role === 'citizen' &&
  (missions === undefined ||
    missions === '*' ||
    (seen !== undefined && [...seen].every((mission) => missions.has(mission))))
