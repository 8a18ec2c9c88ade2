// All frames of the protocol as a list: each with its `type`, schema and examples, for the docs and the tests. Derived from
// client-frames.ts, answers.ts and server-frames.ts.
import Type, { type TObject, type TSchema } from './typebox.ts'
import { answers, exampleMission } from './answers.ts'
import { clientFrames, type FrameType } from './client-frames.ts'
import { events } from './events.ts'
import { serverFrames } from './server-frames.ts'

/** A kind of frame. Its name begins with its group: `client.send`, `ok.send` (its answer), `event.message.created`, `server.typing`. */
export type Message = { name: string; type: string; summary: string; schema: TSchema; examples: object[] }

type Described = TSchema & { description?: string; examples?: object[] }
const examplesOf = (schema: Described): object[] =>
  schema.examples ??
  (Type.IsUnion(schema) ? schema.anyOf.flatMap((part: TSchema) => examplesOf(part as Described)) : [])

/** Returns the schema of a frame as sent: with its `type`, and with an `id` if it has one. */
const frame = (type: string, schema: TSchema, id: Record<string, TSchema> = {}): TSchema =>
  Type.IsUnion(schema)
    ? Type.Union(schema.anyOf.map((part: TSchema) => frame(type, part, id)))
    : Type.Object({ type: Type.Literal(type), ...id, ...(schema as TObject).properties })

const id = { id: Type.Union([Type.Number(), Type.String()], { description: 'ID of the answered frame' }) }
const names = Object.keys(answers) as FrameType[]

/** The frames that clients send. */
export const clientMessages: Message[] = names.map((type) => ({
  name: `client.${type}`,
  type,
  summary: answers[type].summary,
  schema: frame(type, clientFrames[type]),
  examples: answers[type].examples.map((example) => ({ type, ...example })),
}))

/** The answers to client frames. A refused frame is answered with `error`. */
export const okMessages: Message[] = names.map((type) => {
  const { examples, ok } = answers[type]
  const shown = examplesOf(ok)
  return {
    name: `ok.${type}`,
    type: 'ok',
    summary: `The answer to ${type}`,
    schema: frame('ok', ok, id),
    examples: (shown.length > 0 ? shown : [{}]).map((members, i) => ({
      type: 'ok',
      id: examples[i]?.id ?? 1,
      ...members,
    })),
  }
})

export const eventMessages: Message[] = Object.entries(events).map(([event, { data, example, of }]) => ({
  name: `event.${event}`,
  type: 'event',
  summary: `An event of missions/{mission}${of && `/${of.replace('rafael', '{citizen}').replace(/[0-9a-f-]{36}/, '{run}')}`}`,
  schema: frame(
    'event',
    Type.Object({
      topic: Type.String(),
      seq: Type.Integer({ minimum: 1 }),
      event: Type.Literal(event),
      data,
    }),
  ),
  examples: [
    { type: 'event', topic: `missions/${exampleMission}${of && `/${of}`}`, seq: example.seq, event, data: example },
  ],
}))

/** All other frames that the server sends. */
export const pushedMessages: Message[] = Object.entries(serverFrames).map(([type, schema]) => ({
  name: `server.${type}`,
  type,
  summary: (schema as Described).description ?? '',
  schema: frame(type, schema),
  examples: examplesOf(schema as Described).map((example) => ({ type, ...example })),
}))

export const serverMessages: Message[] = [...okMessages, ...eventMessages, ...pushedMessages]
