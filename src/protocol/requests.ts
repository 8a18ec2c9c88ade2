// Requests to people: the row, and the input for it and for its answer. Lengths are in Unicode code points.
import Type, { type Static, type TSchema } from './typebox.ts'
import { messageChars } from './rows.ts'
import { citizenPattern, uuidPattern } from './topics.ts'

const nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()])
const id = Type.String({ format: 'uuid' })
const time = Type.String({ format: 'date-time' })
const seq = Type.Integer({ minimum: 0, description: 'seq of its last event' })

const requestKinds = ['approve', 'choose', 'text'] as const
export const requestStates = ['open', 'answered', 'expired', 'withdrawn'] as const
const title = Type.String({ minLength: 1, maxLength: 200 })
const options = Type.Array(Type.String({ minLength: 1, maxLength: 200 }), {
  minItems: 1,
  maxItems: 50,
  uniqueItems: true,
})
/** The longest time until a request expires, in seconds: 30 days. */
const longestRequest = 2_592_000
export const Request = Type.Object(
  {
    id,
    mission_id: id,
    citizen: Type.String({ pattern: citizenPattern, description: 'the citizen that asks' }),
    kind: Type.Enum(requestKinds),
    title,
    body: nullable(Type.String()),
    options: nullable(options),
    task: nullable(Type.String({ format: 'uuid', description: 'the task that waits for the answer' })),
    expires_at: time,
    state: Type.Enum(requestStates),
    answer: nullable(Type.Union([Type.Boolean(), Type.String()])),
    answered_by: nullable(Type.String()),
    answered_at: nullable(time),
    created_at: time,
    seq,
  },
  { title: 'Request', description: 'a citizen asks people' },
)
export type Request = Static<typeof Request>
export const NewRequest = Type.Object({
  citizen: Type.Optional(Type.String({ pattern: citizenPattern, description: 'admin only: the citizen that asks' })),
  kind: Type.Enum(requestKinds),
  title,
  body: Type.Optional(nullable(Type.String({ minLength: 1, maxLength: messageChars }))),
  options: Type.Optional(nullable(options)),
  task: Type.Optional(nullable(Type.String({ pattern: uuidPattern }))),
  expires_in: Type.Optional(
    Type.Integer({ minimum: 1, maximum: longestRequest, default: 86_400, description: 'seconds' }),
  ),
})
export type NewRequest = Static<typeof NewRequest>
export const RequestAnswer = Type.Object({
  answer: Type.Union([Type.Boolean(), Type.String({ minLength: 1, maxLength: messageChars })]),
})
export type RequestAnswer = Static<typeof RequestAnswer>
