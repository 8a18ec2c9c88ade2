// Presence on the other instances, as reported in their answers. An instance numbers its answers: a gap shows that an answer was lost.
import { apply, type People, type Present } from './presence-set.ts'

export type Answer =
  /** all subjects that are present; those that do not fit into one notification follow as changes */
  | { type: 'here'; n: number; subs: Present[] }
  /** subjects whose number of sockets has changed; 0: no longer present */
  | { type: 'change'; n: number; subs: Present[] }
  | { type: 'still'; n: number }

/** By name of the instance: the subjects that are present there. */
export type Elsewhere = Map<string, { n: number; people: People; answeredAt: number }>

/** Takes an instance's answer. Returns false if an earlier answer was lost. */
export const takeAnswer = (elsewhere: Elsewhere, from: string, answer: Answer, now: number): boolean => {
  const { n } = answer
  if (answer.type === 'here') {
    const people: People = new Map()
    apply(people, answer.subs)
    elsewhere.set(from, { n, people, answeredAt: now })
    return true
  }
  const known = elsewhere.get(from)
  if (!known || n !== known.n + (answer.type === 'change' ? 1 : 0)) return false
  if (answer.type === 'change') apply(known.people, answer.subs)
  known.n = n
  known.answeredAt = now
  return true
}

/** Drops the instances that have not answered for `life` ms. */
export const dropSilent = (elsewhere: Elsewhere, now: number, life: number): void => {
  for (const [instance, { answeredAt }] of elsewhere) if (now - answeredAt > life) elsewhere.delete(instance)
}
