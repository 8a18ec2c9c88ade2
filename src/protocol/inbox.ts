// The inbox over HTTP: schemas of its requests and answers.
import Type, { type Static } from './typebox.ts'
import { Activity } from './activity.ts'
import { Kinds, longestRelease, mostCredit, taskKinds } from './client-frames.ts'
import { Request } from './requests.ts'
import { Message, messageFields, Question, TestRun } from './rows.ts'

/** Seconds that a claim may wait: below the 60 s after which proxies end a silent request. */
export const longestWait = 50

const lease = Type.Optional(Type.Integer({ minimum: 10, maximum: 3600, description: 'seconds that a task is leased' }))
const claim = Type.String({
  pattern: '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\\.[1-9][0-9]{0,8}$',
  description: "the task's claim, as received",
})
const leaseUntil = Type.String({ format: 'date-time' })
const cancelled = Type.Boolean({ description: 'a user asked to stop' })

export const NewClaim = Type.Object({
  credit: Type.Optional(Type.Integer({ minimum: 1, maximum: mostCredit, default: 1, description: 'the most tasks' })),
  wait: Type.Optional(
    Type.Number({ minimum: 0, maximum: longestWait, default: 0, description: 'seconds to wait for a task' }),
  ),
  lease,
  kinds: Type.Optional(Kinds),
})
export type NewClaim = Static<typeof NewClaim>
/** A task as its holder gets it. */
export const taskMembers = {
  task: Type.String({ format: 'uuid', description: 'ID of the message to answer, or of the run' }),
  kind: Type.Enum(taskKinds),
  attempt: Type.Integer({ minimum: 1 }),
  lease_until: leaseUntil,
  topic: Type.String(),
  message: Type.Optional(Message),
  run: Type.Optional(TestRun),
  request: Type.Optional(Request),
}
export type GivenTask = Static<Type.TObject<typeof taskMembers>>
export const ClaimedTasks = Type.Object({
  tasks: Type.Array(
    Type.Object(
      { ...taskMembers, claim: Type.String({ description: 'to be sent with every call for the task' }) },
      { title: 'Claimed task' },
    ),
  ),
})
export type ClaimedTasks = Static<typeof ClaimedTasks>

export const Renewal = Type.Object({ claim, lease })
export type Renewal = Static<typeof Renewal>
export const Renewed = Type.Object({ lease_until: leaseUntil, cancelled })

export const DraftPart = Type.Object({
  claim,
  activity: Type.Optional(Activity),
  delta: Type.Optional(Type.String()),
  offset: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: Number.MAX_SAFE_INTEGER,
      description: 'length so far in UTF-16 code units; 0 starts over; left out: the draft continues where it ends',
    }),
  ),
})
export type DraftPart = Static<typeof DraftPart>
export const Drafted = Type.Object({
  offset: Type.Integer({ minimum: 0, description: 'length of the draft in UTF-16 code units' }),
  cancelled,
})

export const NewReply = Type.Object({
  claim,
  message: Type.Optional(messageFields.message),
  code_blocks: messageFields.code_blocks,
  usage: messageFields.usage,
})
export type NewReply = Static<typeof NewReply>

export const Done = Type.Object({ claim })
export type Done = Static<typeof Done>
export const Release = Type.Object({
  claim,
  after: Type.Optional(
    Type.Number({ minimum: 0, maximum: longestRelease, description: 'seconds until the task can be claimed again' }),
  ),
})
export type Release = Static<typeof Release>

const count = Type.Integer({ minimum: 0, maximum: 1000, description: 'counted up to 1,000' })
export const InboxList = Type.Object(
  {
    listening: Type.Boolean({ description: 'something has worked for the citizen within the last 60 s' }),
    waiting: count,
    working: count,
    failed: count,
    tasks: Type.Array(Type.Object({ ...Question.properties, topic: Type.String() }), {
      description: 'unfinished questions, oldest first',
    }),
    next: Type.Union([Type.String(), Type.Null()], { description: 'cursor of the next page' }),
  },
  { title: 'Inbox' },
)
