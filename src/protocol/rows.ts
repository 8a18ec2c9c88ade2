// JSON schemas of the rows, and of the input for them: each schema gives the check, the type and the docs.
// Lengths are in Unicode code points. Times are RFC 3339 in UTC with Z.
import Type, { type Static, type TSchema } from './typebox.ts'
import { Redacted, StoredStep, Usage } from './activity.ts'
import { citizenPattern, uuidPattern } from './topics.ts'

const nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()])
const id = Type.String({ format: 'uuid' })
const time = Type.String({ format: 'date-time' })
const seq = Type.Integer({ minimum: 0, description: 'position in its topic; 0 without an event' })

export const CodeBlock = Type.Object({ language: nullable(Type.String()), code: Type.String() })
export type CodeBlock = Static<typeof CodeBlock>

export const Message = Type.Object(
  {
    id,
    mission_id: id,
    citizen: Type.String({ pattern: citizenPattern }),
    sender: Type.Union([Type.Literal('user'), Type.Literal('citizen')]),
    author: nullable(Type.String({ description: "the writer's sub; null if a SQL writer set none" })),
    message: Type.String(),
    code_blocks: nullable(Type.Array(CodeBlock)),
    created_at: time,
    seq,
    key: nullable(Type.String()),
    in_reply_to: nullable(
      Type.String({
        format: 'uuid',
        description: 'the message of the same chat that it answers, or null',
      }),
    ),
    activity: Type.Optional(Type.Array(StoredStep, { description: 'only if its writer reported steps: the last 50' })),
    usage: Type.Optional(Usage),
    redacted: Type.Optional(Redacted),
  },
  { title: 'Message' },
)
export type Message = Static<typeof Message>

const missionStatus = Type.Union([Type.Literal('active'), Type.Literal('qa'), Type.Literal('complete')])
const int32 = { minimum: -2_147_483_648, maximum: 2_147_483_647 }
const missionFields = {
  title: Type.String({ minLength: 1, maxLength: 1000 }),
  client: Type.String({ minLength: 1, maxLength: 1000 }),
  budget: Type.Integer(int32),
  deadline: Type.String({
    description: 'RFC 3339',
    // The time of day is checked here, since Postgres takes 24:00 as the next day. Postgres checks the day of the month.
    pattern: '^\\d{4}-\\d\\d-\\d\\d[Tt ]([01]\\d|2[0-3]):[0-5]\\d:([0-5]\\d|60)(\\.\\d{1,9})?([Zz]|[+-]\\d\\d:\\d\\d)$',
  }),
  assigned_to: Type.String({ minLength: 1, maxLength: 256, description: "the responsible user's sub" }),
}
const githubUrl = nullable(Type.String({ maxLength: 2000, pattern: '^https?://[^\\s]+$' }))

export const Mission = Type.Object(
  {
    id,
    number: Type.Integer({ description: 'shown as #47' }),
    ...missionFields,
    deadline: time,
    status: missionStatus,
    github_url: nullable(Type.String()),
    created_at: time,
    seq,
  },
  { title: 'Mission' },
)
export type Mission = Static<typeof Mission>
export const NewMission = Type.Object({
  ...missionFields,
  number: Type.Optional(Type.Integer({ minimum: 1, maximum: int32.maximum })),
  status: Type.Optional(missionStatus),
  github_url: Type.Optional(githubUrl),
})
export type NewMission = Static<typeof NewMission>
export const MissionPatch = Type.Partial(
  Type.Object({ ...missionFields, status: missionStatus, github_url: githubUrl }),
)
export type MissionPatch = Static<typeof MissionPatch>
export { missionStatus as MissionStatus }

const category = Type.Union([Type.Literal('functional'), Type.Literal('non-functional'), Type.Literal('tests')])
const testName = Type.String({
  minLength: 1,
  maxLength: 1000,
  description: 'the name of a test in the results of runs',
})
const Evidence = Type.Object(
  {
    run: nullable(Type.String({ format: 'uuid', description: 'the newest finished run that has the test' })),
    status: Type.Union([Type.Literal('passed'), Type.Literal('failed'), Type.Literal('missing')]),
    at: nullable(time),
  },
  { description: 'only of an item that names a test' },
)
const Override = Type.Object(
  { reason: Type.String(), by: Type.String(), at: time },
  { description: 'only of an item that an admin completed without evidence' },
)
export const DodItem = Type.Object(
  {
    id,
    mission_id: id,
    text: Type.String(),
    category,
    completed: Type.Boolean(),
    completed_at: nullable(time),
    seq,
    test_name: Type.Optional(testName),
    evidence: Type.Optional(Evidence),
    override: Type.Optional(Override),
  },
  { title: 'DodItem' },
)
export type DodItem = Static<typeof DodItem>
export const NewDodItem = Type.Object({
  text: Type.String({ minLength: 1, maxLength: 10_000 }),
  category,
  test_name: Type.Optional(nullable(testName)),
})
export type NewDodItem = Static<typeof NewDodItem>
const override = Type.Optional(
  Type.String({ minLength: 1, maxLength: 1000, description: 'admin only: why it is completed without evidence' }),
)
export const DodPatch = Type.Object({
  completed: Type.Optional(Type.Boolean()),
  test_name: Type.Optional(nullable(testName)),
  override,
})
export type DodPatch = Static<typeof DodPatch>
export const DodCompletion = Type.Object({ override })
export type DodCompletion = Static<typeof DodCompletion>
export const Progress = Type.Object({ completed: Type.Integer(), total: Type.Integer() })

const runStatus = Type.Union([Type.Literal('running'), Type.Literal('passed'), Type.Literal('failed')])
const digits = { description: 'up to 1 MiB; its numbers keep all their digits' }
const object = Type.Unsafe<Record<string, unknown>>({ type: 'object', ...digits })
const array = Type.Array(Type.Unknown(), digits)
export const TestRun = Type.Object(
  { id, mission_id: id, status: runStatus, summary: nullable(object), results: nullable(array), created_at: time, seq },
  { title: 'TestRun' },
)
export type TestRun = Static<typeof TestRun>
/** Who has a run that was asked for. */
export const RunTask = Type.Object({
  citizen: Type.String(),
  state: Type.Enum(['waiting', 'working'], { description: 'waiting: nobody has the run' }),
  attempt: Type.Integer({ minimum: 0 }),
  since: time,
  cancelled: Type.Boolean({ description: 'its holder was asked to stop' }),
  listening: Type.Boolean({
    description: "something took the citizen's runs, or asked for some, within the last 60 s",
  }),
})
export type RunTask = Static<typeof RunTask>
export const NewTestRun = Type.Object({
  status: Type.Optional(runStatus),
  summary: Type.Optional(nullable(object)),
  results: Type.Optional(nullable(array)),
  logs: Type.Optional(nullable(Type.String())),
})
export type NewTestRun = Static<typeof NewTestRun>
export const TestRunPatch = Type.Object({
  status: Type.Optional(runStatus),
  summary: Type.Optional(nullable(object)),
  results: Type.Optional(nullable(array)),
})
export type TestRunPatch = Static<typeof TestRunPatch>

/** Maximum Unicode code points of a message. */
export const messageChars = 10_000

/** The input for a message. Only an admin may set sender and author. */
export const messageFields = {
  message: Type.String({ minLength: 1, maxLength: messageChars }),
  code_blocks: Type.Optional(
    nullable(Type.Array(Type.Object({ language: Type.Optional(nullable(Type.String())), code: Type.String() }))),
  ),
  key: Type.Optional(nullable(Type.String({ pattern: '^[\\x20-\\x7e]{1,64}$' }))),
  reply_to: Type.Optional(
    nullable(Type.String({ pattern: uuidPattern, description: 'the message of the same chat that this one answers' })),
  ),
  usage: Type.Optional(Usage),
  sender: Type.Optional(Type.Unknown({ description: 'admin only: user (default) or citizen' })),
  author: Type.Optional(Type.Unknown({ description: 'admin only: the author, a sub or null' })),
}
export const NewMessage = Type.Object(messageFields)
export type NewMessage = Static<typeof NewMessage>

export const Citizen = Type.Object(
  {
    name: Type.String({ pattern: citizenPattern }),
    title: Type.String({ description: 'what it does, in a word or two' }),
    about: nullable(Type.String()),
    position: Type.Integer({ description: 'citizens are sorted by position, then by name' }),
    listening: Type.Boolean({ description: 'something has worked for it within the last 60 s' }),
    last_seen: nullable(time),
  },
  { title: 'Citizen' },
)
export type Citizen = Static<typeof Citizen>
export const NewCitizen = Type.Object({
  title: Type.String({ minLength: 1, maxLength: 200 }),
  about: Type.Optional(nullable(Type.String({ minLength: 1, maxLength: 2000 }))),
  position: Type.Optional(Type.Integer(int32)),
})
export type NewCitizen = Static<typeof NewCitizen>

export const Member = Type.Object(
  { sub: Type.String(), since: time },
  { title: 'Member', description: 'a person who sees the mission as its assignee does' },
)
export type Member = Static<typeof Member>

export const questionStates = ['waiting', 'working', 'answered', 'closed', 'failed'] as const
export const Question = Type.Object(
  {
    id,
    seq,
    state: Type.Enum(questionStates),
    attempt: Type.Integer({ minimum: 0, maximum: 5 }),
    since: time,
    until: nullable(
      Type.String({ format: 'date-time', description: 'working: when the lease ends, unless it is renewed' }),
    ),
    answer: nullable(Type.Object({ id, seq })),
  },
  { title: 'Question', description: "a user's message to a citizen, and what became of it" },
)
export type Question = Static<typeof Question>

/** What decides rights on a mission. `members`: subs that see it as its assignee does; none if null or left out. */
export type MissionRights = { id: string; number: number; assigned_to: string; members?: readonly string[] | null }

/** A row or event of a topic; `data` is its JSON text. */
export type Event = { seq: number; event: string; data: string }

/**
 * The events of a topic in (after, covered], read in one snapshot. A seq that is missing in this range no longer has an event.
 * `asOf` is when the read began (performance.now): it orders rights that were read at different times.
 */
export type Page = { events: Event[]; covered: number; head: number; mission: MissionRights | undefined; asOf: number }
