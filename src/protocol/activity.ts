// The activity of a reply: steps, each with a line of text, that show what its writer does. Also the reply's usage: what it cost, in the
// writer's own words. A draft has its steps; the last of them are stored with the message, and so is the usage.
import Type, { type Static } from './typebox.ts'
import { deny } from './errors.ts'

/** Steps that a draft and its message keep: the last ones. */
export const mostSteps = 50
/** Bytes of `usage`, as JSON. */
export const usageBytes = 4096

export const stepStatuses = ['running', 'done', 'failed'] as const
const status = Type.Enum(stepStatuses)
const line = Type.String({ minLength: 1, maxLength: 200 })

export const Activity = Type.Object(
  { id: Type.String({ minLength: 1, maxLength: 64, description: 'the same ID updates the step' }), line, status },
  { title: 'Activity', description: 'a step of the writer' },
)
export type Activity = Static<typeof Activity>
export const StoredStep = Type.Object({
  id: Type.Optional(Type.String({ minLength: 1, maxLength: 64, description: 'as it was reported' })),
  line,
  status,
  ms: Type.Integer({ minimum: 0, description: 'how long it took, or had taken when the message was stored' }),
})
export const Usage = Type.Unsafe<Record<string, unknown>>({
  type: 'object',
  description: `what the reply cost, in any form: up to ${usageBytes} bytes of JSON`,
})
/** Who redacted a message, and when. */
export const Redacted = Type.Object({ by: Type.String(), at: Type.String({ format: 'date-time' }) })
export type Redacted = Static<typeof Redacted>

/** What is stored with a message. `redacted`: of a message without a text. */
export type Details = {
  redacted?: Redacted
  activity?: Static<typeof StoredStep>[]
  usage?: Record<string, unknown>
}

/** A step of a draft. `at`: when it was first reported (ms since 1970). `ms`: how long it has taken. */
export type Step = Activity & { at: number; ms: number }

/** Returns the steps with a report: a new step, or an update. A step that has ended keeps its time if it is only reported again. */
export const withReport = (steps: readonly Step[], { id, line, status }: Activity, now = Date.now()): Step[] => {
  const known = steps.find((step) => step.id === id)
  if (!known) return [...steps, { id, line, status, at: now, ms: 0 }].slice(-mostSteps)
  const same = known.status === status && status !== 'running'
  const step = { id, line, status, at: known.at, ms: same ? known.ms : Math.max(0, now - known.at) }
  return steps.map((other) => (other === known ? step : other))
}

/** Returns the steps as they are stored. */
export const storedSteps = (steps: readonly Step[], now = Date.now()): Static<typeof StoredStep>[] =>
  steps.map(({ id, line, status, at, ms }) => ({
    id,
    line,
    status,
    ms: status === 'running' ? Math.max(0, now - at) : ms,
  }))

/** Returns what is stored with a message; undefined for nothing. Throws `bad_request` for too much usage. */
export const detailsOf = ({
  activity,
  usage,
}: { [K in 'activity' | 'usage']?: Details[K] | null | undefined }): Details | undefined => {
  if (usage != null && Buffer.byteLength(JSON.stringify(usage)) > usageBytes)
    throw deny('bad_request', `usage has more than ${usageBytes} bytes of JSON`)
  const details = { ...(activity?.length ? { activity } : {}), ...(usage == null ? {} : { usage }) }
  return Object.keys(details).length > 0 ? details : undefined
}
