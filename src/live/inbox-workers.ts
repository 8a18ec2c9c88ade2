// The sockets that work for one citizen: the number of tasks that each may take, and their order.
import type { Actor } from '../access/actor.ts'

/** A socket that works. */
export type Worker = {
  readonly id: string
  readonly actor: Actor
  readonly closed: boolean
  push(frame: string): boolean
}

/** `held`: the mission ID of each task that the worker holds. */
export type Place = { credit: number; held: Map<string, string> }
export type Workers = Map<Worker, Place>

/** The missions that a worker may see; undefined: all. */
export type Seen = ReadonlySet<string> | undefined
export type Group = { seen: Seen; group: [Worker, Place][] }

/** Returns whether a worker may take one more task. */
export const hasRoom = (workers: Workers): boolean =>
  [...workers.values()].some(({ credit, held }) => held.size < credit)

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

/** Groups the workers that may see the same missions: one claim serves the group. */
export const groupsOf = (workers: Workers): Group[] => {
  const all = new Map<string, Group>()
  for (const [worker, place] of workers) {
    const { missions } = worker.actor
    const seen = missions === '*' ? undefined : missions
    const name = seen ? [...seen].sort().join(' ') : '*'
    const known = all.get(name)
    if (known) known.group.push([worker, place])
    else all.set(name, { seen, group: [[worker, place]] })
  }
  return [...all.values()]
}

/** Returns whether an actor may take tasks that were claimed for workers that see `seen`. */
export const mayTake = ({ role, missions }: Actor, seen: Seen): boolean =>
  role === 'citizen' &&
  (missions === undefined ||
    missions === '*' ||
    (seen !== undefined && [...seen].every((mission) => missions.has(mission))))
