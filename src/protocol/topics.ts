// Topics: the same name is used for reads over HTTP (under /api/) and for subscriptions over the socket.
// Clients name a mission by its UUID or its number; the server always sends the UUID, in lower case.
import { deny } from './errors.ts'
import { storable } from './text.ts'

/** A mission as a client names it. */
export type MissionRef = { id: string } | { number: number }

/** A topic as a client names it. */
export type TopicRef =
  | { kind: 'mission' | 'dod' | 'tests' | 'requests'; mission: MissionRef }
  | { kind: 'chat'; mission: MissionRef; citizen: string }
  | { kind: 'logs'; mission: MissionRef; run: string }

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i
const citizenName = /^[a-z][a-z0-9_-]{0,31}$/

export const uuidPattern = '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$'
/** In a notification: up to 100 UUIDs, separated by commas. */
const hex = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'
export const uuidListPattern = `${hex}(?:,${hex}){0,99}`
export const citizenPattern = citizenName.source

/** Parses a mission's UUID (either case) or number (1 to 2147483647). Throws `bad_request` if it is invalid. */
export const parseMission = (text: string): MissionRef => {
  if (uuid.test(text)) return { id: text.toLowerCase() }
  if (/^[1-9][0-9]{0,9}$/.test(text) && Number(text) <= 2_147_483_647) return { number: Number(text) }
  throw deny('bad_request', 'mission must be its UUID or its number')
}

/** Returns a UUID in lower case. Throws `bad_request` if it is invalid. */
export const parseId = (text: string, what: string): string => {
  if (!uuid.test(text)) throw deny('bad_request', `${what} must be a UUID`)
  return text.toLowerCase()
}

/** Returns a citizen's name. Throws `bad_request` if it is invalid. */
export const parseCitizen = (text: string): string => {
  if (!citizenName.test(text)) throw deny('bad_request', `citizen must match ${citizenPattern}`)
  return text
}

/** Returns a person's sub. Throws `bad_request` if a token can't have it. */
export const parseSub = (text: string): string => {
  const length = [...text].length
  if (length === 0 || length > 512 || !storable(text))
    throw deny('bad_request', 'a sub has 1 to 512 characters, without U+0000')
  return text
}

// A cache of parsed topics, since clients send the same names again and again. Once full, it is emptied.
const remembered = new Map<string, TopicRef>()
const most = 10_000

/** Parses a topic's name. Throws `bad_request` if it is invalid. */
export const parseTopic = (text: string): TopicRef => {
  const known = remembered.get(text)
  if (known) return known
  const topic = readTopic(text)
  if (remembered.size >= most) remembered.clear()
  remembered.set(text, topic)
  return topic
}

const readTopic = (text: string): TopicRef => {
  const [root, mission, part, name, tail, ...rest] = text.split('/')
  if (root === 'missions' && mission !== undefined && rest.length === 0) {
    if (part === undefined) return { kind: 'mission', mission: parseMission(mission) }
    if (name === undefined && (part === 'dod' || part === 'tests' || part === 'requests'))
      return { kind: part, mission: parseMission(mission) }
    if (part === 'chat' && name !== undefined && tail === undefined)
      return { kind: 'chat', mission: parseMission(mission), citizen: parseCitizen(name) }
    if (part === 'tests' && name !== undefined && tail === 'logs')
      return { kind: 'logs', mission: parseMission(mission), run: parseId(name, 'a test run') }
  }
  throw deny('bad_request', 'topic is invalid; an example is missions/47/chat/rafael')
}

/** Returns the canonical name of a topic in the mission with this ID. */
export const formatTopic = (topic: TopicRef, missionId: string): string => {
  const mission = `missions/${missionId}`
  switch (topic.kind) {
    case 'mission':
      return mission
    case 'chat':
      return `${mission}/chat/${topic.citizen}`
    case 'logs':
      return `${mission}/tests/${topic.run}/logs`
    default:
      return `${mission}/${topic.kind}`
  }
}

/** Splits a canonical topic: the mission's ID, the citizen of a chat, and whether it is the mission's own topic (`mine`). */
export const topicParts = (topic: string): { mission: string; citizen: string | null; mine: boolean } => {
  const mission = topic.slice(9, 45)
  const citizen = topic.startsWith('/chat/', 45) ? topic.slice(51) : null
  return { mission, citizen, mine: topic.length === 45 }
}
