// What a tool is: its name, who is offered it, its arguments and what it does.
import type { Role } from '../../access/actor.ts'
import { makeCheck } from '../../protocol/check.ts'
import { taskKinds } from '../../protocol/client-frames.ts'
import { citizenPattern, uuidPattern } from '../../protocol/topics.ts'
import Type, { type Static, type TObject } from '../../protocol/typebox.ts'
import type { Api, Row } from './api.ts'

export type Tool = {
  name: string
  /** An admin is offered every tool. */
  roles: readonly Role[]
  title: string
  description: string
  reads: boolean
  schema: ReturnType<typeof toStandard>
  run(api: Api, args: unknown): Promise<Row>
}

/** A schema in the form that the SDK takes (standardschema.dev). */
const toStandard = (schema: TObject) => {
  const check = makeCheck(schema)
  const json = (): Record<string, unknown> => schema as unknown as Record<string, unknown>
  return {
    '~standard': {
      version: 1 as const,
      vendor: 'mission-deck',
      validate: (value: unknown) =>
        check.fits(value) ? { value } : { issues: [{ message: check.why(value, 'arguments') }] },
      jsonSchema: { input: json, output: json },
    },
  }
}

export const tool = <Schema extends TObject>(
  name: string,
  {
    args,
    run,
    ...about
  }: Pick<Tool, 'roles' | 'title' | 'description' | 'reads'> & {
    args: Schema
    run: (api: Api, args: Static<Schema>) => Promise<Row>
  },
): Tool => ({
  name,
  ...about,
  schema: toStandard(args),
  // (The SDK has validated the arguments.)
  run: (api, given) => run(api, given as Static<Schema>),
})

export const Mission = Type.Union(
  [Type.String({ pattern: `${uuidPattern}|^[1-9][0-9]{0,9}$` }), Type.Integer({ minimum: 1 })],
  {
    description: "the mission's id or number",
  },
)
export const Citizen = Type.String({ pattern: citizenPattern, description: "the citizen's name, such as rafael" })
export const Id = Type.String({ pattern: uuidPattern })
export const Seq = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })
export const TaskKinds = Type.Array(Type.Enum([...taskKinds]), { minItems: 1 })

/** The longest time that a call waits, in seconds: clients give up after a minute. */
export const longestCall = 45
