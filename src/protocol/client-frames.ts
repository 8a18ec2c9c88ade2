// Schemas of the frames that clients send, and their parser. A frame is a text frame with one JSON object. Unknown members of a frame
// are ignored, so that a newer client can use an older server.
import Type, { type Static, type TSchema } from './typebox.ts'
import { Activity } from './activity.ts'
import { makeCheck, type Check } from './check.ts'
import { deny, type Refusal } from './errors.ts'
import { messageFields } from './rows.ts'
import { isAbyss, membersOf, parseJson } from './text.ts'
import { uuidPattern } from './topics.ts'

const id = Type.Optional(
  Type.Unsafe<number | bigint | string>(Type.Union([Type.Number(), Type.String({ maxLength: 256 })])),
)
const topic = Type.String({ maxLength: 256 })
const cursor = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })
const uuid = Type.String({ pattern: uuidPattern })
const draftKey = Type.String({ pattern: '^[\\x20-\\x7e]{1,64}$' })

/** Tasks that a socket may hold at a time, and seconds for which a task may be postponed: a day. */
export const mostCredit = 100
export const longestRelease = 86_400

/** The kinds of task that a worker takes; only messages if left out. */
export const taskKinds = ['message', 'run'] as const
export type TaskKind = (typeof taskKinds)[number]
export const Kinds = Type.Array(Type.Enum(taskKinds), { minItems: 1 })

export const clientFrames = {
  subscribe: Type.Object({
    id,
    topic,
    after: Type.Optional(cursor),
    epoch: Type.Optional(Type.String()),
    presence: Type.Optional(Type.Boolean()),
    chats: Type.Optional(Type.Boolean()),
    questions: Type.Optional(Type.Boolean()),
  }),
  unsubscribe: Type.Object({ id, topic }),
  send: Type.Object({ id, topic, ...messageFields, task: Type.Optional(uuid) }),
  stream: Type.Object({
    id,
    topic,
    key: draftKey,
    offset: Type.Optional(cursor),
    delta: Type.Optional(Type.String()),
    activity: Type.Optional(Activity),
    done: Type.Optional(Type.Literal(true)),
    abort: Type.Optional(Type.Literal(true)),
    message: Type.Optional(messageFields.message),
    code_blocks: messageFields.code_blocks,
    reply_to: messageFields.reply_to,
    usage: messageFields.usage,
    task: Type.Optional(uuid),
  }),
  cancel: Type.Object({ id, topic, key: draftKey }),
  read: Type.Object({ id, topic, seq: cursor }),
  typing: Type.Object({ id, topic, on: Type.Boolean() }),
  work: Type.Object({
    id,
    credit: Type.Integer({ minimum: 0, maximum: mostCredit }),
    resume: Type.Optional(uuid),
    kinds: Type.Optional(Kinds),
  }),
  done: Type.Object({ id, task: uuid }),
  release: Type.Object({ id, task: uuid, after: Type.Optional(Type.Number({ minimum: 0, maximum: longestRelease })) }),
  auth: Type.Object({ id, token: Type.String() }),
  ping: Type.Object({ id }),
}
export type FrameType = keyof typeof clientFrames
export type ClientFrame<T extends FrameType> = Static<(typeof clientFrames)[T]>
/** A bigint is an integer that a double can't hold; the answer has the same digits. */
export type FrameId = number | bigint | string | undefined

const checks: Record<string, Check> = Object.fromEntries(
  Object.entries(clientFrames).map(([type, schema]: [string, TSchema]) => [type, makeCheck(schema)]),
)

/** The result of reading a text: a frame, or a refusal with the id, if it could be read. */
export type Read =
  | { [T in FrameType]: { type: T; id: FrameId; frame: ClientFrame<T> } }[FrameType]
  | { type: 'bad'; id: FrameId; refusal: Refusal; protocol: boolean }

const bad = (detail: string, id?: FrameId, protocol = false): Read => ({
  type: 'bad',
  id,
  refusal: deny('bad_request', detail),
  protocol,
})

/** Reads one text frame. `protocol`: the text is not a JSON object. */
export const readFrame = (text: string): Read => {
  let value: unknown
  try {
    value = parseJson(text)
  } catch (refusal) {
    // The refusal carries the id, if there is one, so that the sender knows which frame it is for.
    if (isAbyss(text)) return bad((refusal as Refusal).detail)
    try {
      value = JSON.parse(text)
    } catch {
      return bad('the frame is not JSON', undefined, true)
    }
    const given = typeof value === 'object' && value !== null && 'id' in value ? value.id : undefined
    return bad((refusal as Refusal).detail, isId(given) ? exactId(given, text) : undefined)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return bad('the frame is not a JSON object', undefined, true)
  const { type, id } = value as { type?: unknown; id?: unknown }
  const known = isId(id) ? exactId(id, text) : undefined
  if (id !== undefined && known === undefined) return bad('id must be a number or a string of up to 256 characters')
  if (typeof type !== 'string' || !Object.hasOwn(checks, type)) return bad('type is missing or unknown', known)
  const check = checks[type]
  if (!check?.fits(value)) return bad(check?.why(value) ?? 'frame is not valid', known)
  return { type, id: known, frame: typeof known === 'bigint' ? { ...value, id: known } : value } as Read
}

const isId = (id: unknown): id is number | string =>
  (typeof id === 'number' && Number.isFinite(id)) || (typeof id === 'string' && id.length <= 256)

/** Returns an id with all its digits, read from its frame's text. */
const exactId = (id: number | string, text: string): FrameId => {
  if (typeof id === 'string' || Number.isSafeInteger(id) || !Number.isInteger(id)) return id
  try {
    return BigInt(membersOf(text).get('id') ?? id)
  } catch {
    // BigInt can't parse an exponent, as in 1e300. The double's value is sent back.
    return id
  }
}
