// Authorization: which role may do which action, for HTTP and socket alike.
// For an actor that may not see a mission, the answer is the same as for a mission that does not exist.
import { deny, noMission, type Refusal } from '../protocol/errors.ts'
import type { Message, MissionRights } from '../protocol/rows.ts'
import type { Actor, Role } from './actor.ts'

export type Action =
  | 'read'
  | 'mission.create'
  | 'mission.update'
  | 'mission.delete'
  | 'citizen.change'
  | 'member.change'
  | 'person.change'
  | 'key.change'
  | 'audit.read'
  | 'chat.post'
  | 'chat.clear'
  | 'question.change'
  | 'dod.add'
  | 'dod.toggle'
  | 'dod.override'
  | 'dod.delete'
  | 'run.ask'
  | 'run.cancel'
  | 'run.write'
  | 'log.redact'
  | 'request.make'
  | 'request.answer'
  | 'request.withdraw'

// 'own': only in the citizen's own chat.
const table: Record<Action, Record<Role, boolean | 'own'>> = {
  read: { user: true, citizen: true, admin: true },
  'mission.create': { user: false, citizen: false, admin: true },
  'mission.update': { user: false, citizen: false, admin: true },
  'mission.delete': { user: false, citizen: false, admin: true },
  // Changes of the registry.
  'citizen.change': { user: false, citizen: false, admin: true },
  'member.change': { user: false, citizen: false, admin: true },
  // People and their sessions and invites; keys of citizens.
  'person.change': { user: false, citizen: false, admin: true },
  'key.change': { user: false, citizen: false, admin: true },
  'audit.read': { user: false, citizen: false, admin: true },
  'chat.post': { user: true, citizen: 'own', admin: true },
  'chat.clear': { user: false, citizen: false, admin: true },
  // Who may let a failed question wait again, or cancel one.
  'question.change': { user: true, citizen: false, admin: true },
  'dod.add': { user: false, citizen: true, admin: true },
  // Who may tick a checklist item, or untick it.
  'dod.toggle': { user: true, citizen: false, admin: true },
  // Completing an item without evidence, or changing its test.
  'dod.override': { user: false, citizen: false, admin: true },
  'dod.delete': { user: false, citizen: false, admin: true },
  'run.ask': { user: true, citizen: true, admin: true },
  'run.cancel': { user: true, citizen: true, admin: true },
  'run.write': { user: false, citizen: true, admin: true },
  'log.redact': { user: false, citizen: false, admin: true },
  'request.make': { user: false, citizen: 'own', admin: true },
  'request.answer': { user: true, citizen: false, admin: true },
  'request.withdraw': { user: false, citizen: 'own', admin: true },
}

/** Actions that are not about a mission. */
const withoutMission: ReadonlySet<Action> = new Set([
  'mission.create',
  'citizen.change',
  'person.change',
  'key.change',
  'audit.read',
])

/** Returns whether the actor may see the mission. */
export const sees = (actor: Actor, mission: MissionRights): boolean => {
  if (actor.role === 'admin' || actor.missions === '*') return true
  if (actor.missions?.has(mission.id) || actor.missions?.has(String(mission.number))) return true
  if (actor.role === 'citizen') return actor.missions === undefined
  return mission.assigned_to === actor.sub || (mission.members?.includes(actor.sub) ?? false)
}

/**
 * Which missions the actor may see, for statements: all; or those of `sub` (null: nobody) as assignee or member, and those with these IDs or
 * numbers.
 */
export type Visible = { all: boolean; sub: string | null; refs: string[] }
export const visible = (actor: Actor): Visible => ({
  all: actor.role === 'admin' || actor.missions === '*' || (actor.role === 'citizen' && !actor.missions),
  // A citizen sees the missions of its claim only; a user also sees its own.
  sub: actor.role === 'user' ? actor.sub : null,
  refs: actor.missions instanceof Set ? [...(actor.missions as Set<string>)] : [],
})

/** Returns whether the actor may see the mission only because it is the assignee or a member. */
export const seesByAssignment = (actor: Actor, mission: MissionRights): boolean =>
  sees(actor, mission) && !sees(actor, { ...mission, assigned_to: '', members: null })

/**
 * Returns whether the actor may take back a message of a mission that it may see: an admin; its author; a user, for a reply to its own
 * question (`asker`: the question's author).
 */
export const mayRedact = (
  { role, sub }: Actor,
  { sender, author, asker }: Pick<Message, 'sender' | 'author'> & { asker: string | null },
): boolean =>
  role === 'admin' || (role === sender && author === sub) || (role === 'user' && sender === 'citizen' && asker === sub)

/** Returns whether `now` has all rights that `before` had, on any mission. */
export const keepsRights = (before: Actor, now: Actor): boolean => {
  if (before.role !== now.role) return false
  const all = ({ role, missions }: Actor): boolean =>
    role === 'admin' || missions === '*' || (role === 'citizen' && missions === undefined)
  if (all(now)) return true
  if (all(before)) return false
  const named = (actor: Actor): readonly string[] =>
    (actor.missions instanceof Set ? [...actor.missions] : []) as string[]
  const kept = new Set(named(now))
  return named(before).every((mission) => kept.has(mission))
}

/** Returns the error if the actor may not do this to the mission (undefined: it does not exist); null if it may. */
export const refusal = (
  actor: Actor,
  action: Action,
  mission: MissionRights | undefined,
  citizen?: string,
): Refusal | null => {
  if (!withoutMission.has(action) && (!mission || !sees(actor, mission))) return noMission()
  const right = table[action][actor.role]
  if (right === true || (right === 'own' && citizen === actor.sub)) return null
  return deny('forbidden', right === 'own' ? 'a citizen posts in its own chat only' : undefined)
}

/** Throws the error that `refusal` returns. If it returns, the mission exists. */
export function allow(
  actor: Actor,
  action: Action,
  mission: MissionRights | undefined,
  citizen?: string,
): asserts mission {
  const why = refusal(actor, action, mission, citizen)
  if (why) throw why
}

/** Throws the error if the actor may not do an action that is not about a mission. */
export const permit = (actor: Actor, action: Action): void => {
  const why = refusal(actor, action, undefined)
  if (why) throw why
}
