// Topics: one name for reading over HTTP (under /api/) and for following over the socket.
// A mission is named by its UUID or its number; what the server sends carries the UUID, in lower case.
import { deny } from './errors.ts'

/** How a client names a mission. */
export type MissionRef = { id: string } | { number: number }

/** A topic as a client names it. */
export type TopicRef =
  | { kind: 'mission' | 'dod' | 'tests'; mission: MissionRef }
  | { kind: 'chat'; mission: MissionRef; citizen: string }
  | { kind: 'logs'; mission: MissionRef; run: string }

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i
const citizenName = /^[a-z][a-z0-9_-]{0,31}$/

export const uuidPattern = '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$'
export const citizenPattern = citizenName.source

/** A mission's UUID (either case) or number (1 to 2147483647); otherwise `bad_request`. */
export const parseMission = (text: string): MissionRef => {
  if (uuid.test(text)) return { id: text.toLowerCase() }
  if (/^[1-9][0-9]{0,9}$/.test(text) && Number(text) <= 2_147_483_647) return { number: Number(text) }
  throw deny('bad_request', 'mission must be its UUID or its number')
}

/** A UUID, in lower case; otherwise `bad_request`. */
export const parseId = (text: string, what: string): string => {
  if (!uuid.test(text)) throw deny('bad_request', `${what} must be a UUID`)
  return text.toLowerCase()
}

/** A citizen's name; otherwise `bad_request`. */
export const parseCitizen = (text: string): string => {
  if (!citizenName.test(text)) throw deny('bad_request', `citizen must match ${citizenPattern}`)
  return text
}

// A client names the same few topics again and again: what was read lately is remembered, so many and no more.
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
    if (name === undefined && (part === 'dod' || part === 'tests'))
      return { kind: part, mission: parseMission(mission) }
    if (part === 'chat' && name !== undefined && tail === undefined)
      return { kind: 'chat', mission: parseMission(mission), citizen: parseCitizen(name) }
    if (part === 'tests' && name !== undefined && tail === 'logs')
      return { kind: 'logs', mission: parseMission(mission), run: parseId(name, 'a test run') }
  }
  throw deny('bad_request', 'topic has no known form, such as missions/47/chat/rafael')
}

/** The canonical name of a topic of the mission with this id. */
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

/** A canonical topic taken apart: its mission's id, and the citizen if it is a chat. */
export const topicParts = (topic: string): { mission: string; citizen: string | null; mine: boolean } => {
  const mission = topic.slice(9, 45)
  const citizen = topic.startsWith('/chat/', 45) ? topic.slice(51) : null
  return { mission, citizen, mine: topic.length === 45 }
}
