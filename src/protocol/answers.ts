// The client's frames: the purpose of each, examples, and the members of its `ok` besides the `id`. A frame in client-frames.ts without a
// row here does not compile. The AsyncAPI document and tests are made from this table. At run time the server's frames are not checked.
import Type, { type Static, type TProperties, type TSchema } from './typebox.ts'
import type { ClientFrame, FrameType } from './client-frames.ts'
import { Message } from './rows.ts'

export const seq = Type.Integer({ minimum: 0, description: 'a position in the topic' })
export const time = Type.String({ format: 'date-time' })
export const topic = Type.String({ description: "canonical: with the mission's UUID in lower case" })
export const task = Type.String({ format: 'uuid', description: 'ID of the message to answer' })

// A chat of the seed's mission, with its number (as clients may write it) and with its UUID (as the server writes it).
const chat = 'missions/47/chat/rafael'
export const exampleMission = '47000000-0000-4000-8000-000000000047'
export const exampleTopic = `missions/${exampleMission}/chat/rafael`
export const exampleMessage: Message = {
  id: '47000000-0000-4000-8000-000000000205',
  mission_id: exampleMission,
  citizen: 'rafael',
  sender: 'user',
  author: 'person1@scopelock.ai',
  message: 'And how do I remove them?',
  code_blocks: null,
  created_at: '2025-11-06T09:17:00Z',
  seq: 3,
  key: 'q1',
  in_reply_to: null,
}

/** An object schema with an example. */
export const shown = <P extends TProperties>(members: P, example: NoInfer<Static<Type.TObject<P>>>) =>
  Type.Object(members, { examples: [example] })

type Row<T extends FrameType, S extends TSchema> = {
  summary: string
  examples: (ClientFrame<T> & { id: number })[]
  /** members of `ok` besides the id */
  ok: S
}
/** Called twice: the first call names the frame, so that the examples are checked by the frame's type. */
const row =
  <T extends FrameType>() =>
  <S extends TSchema>(summary: string, ok: S, ...examples: Row<T, S>['examples']): Row<T, S> => ({
    summary,
    ok,
    examples,
  })

const nothing = Type.Object({})
const followed = shown(
  { topic, seq, epoch: Type.String({ description: 'the same for the whole database' }) },
  { topic: exampleTopic, seq: 2, epoch: '3f0c9a51d2e84b67' },
)
const saved = shown({ seq, message: Message }, { seq: 3, message: exampleMessage })
const offset = Type.Integer({ minimum: 0, description: 'length of the draft in UTF-16 code units' })

export const answers = {
  subscribe: row<'subscribe'>()(
    'Follow a topic: all events after `after`, then live events; without `after`, live events only',
    followed,
    { id: 1, topic: chat, after: 2 },
    { id: 2, topic: 'missions' },
    { id: 13, topic: chat, presence: true },
  ),
  unsubscribe: row<'unsubscribe'>()('Unsubscribe from a topic', shown({ topic }, { topic: exampleTopic }), {
    id: 3,
    topic: chat,
  }),
  send: row<'send'>()('Post a message; answered once it is committed', saved, {
    id: 4,
    topic: chat,
    message: exampleMessage.message,
    key: 'q1',
  }),
  stream: row<'stream'>()(
    'Stream a reply while it is written: deltas under one key, then `done` or `abort`',
    Type.Union([shown({ offset }, { offset: 9 }), saved]),
    { id: 5, topic: chat, key: 'r1', delta: 'Edit the ' },
    { id: 6, topic: chat, key: 'r1', done: true, task: exampleMessage.id, usage: { output_tokens: 340 } },
    { id: 7, topic: chat, key: 'r2', abort: true },
    { id: 18, topic: chat, key: 'r1', activity: { id: 's1', line: 'Reads the specification', status: 'running' } },
  ),
  cancel: row<'cancel'>()('Ask the writer of a draft to stop', nothing, { id: 8, topic: chat, key: 'r1' }),
  read: row<'read'>()(
    'Set how far this sub has read a chat; a lower seq changes nothing',
    shown({ topic, seq }, { topic: exampleTopic, seq: 3 }),
    { id: 9, topic: chat, seq: 3 },
  ),
  typing: row<'typing'>()('Report that the user started or stopped typing in a chat', nothing, {
    id: 10,
    topic: chat,
    on: true,
  }),
  work: row<'work'>()(
    'A citizen asks for up to `credit` tasks at a time; `resume` takes over the tasks of a former session',
    shown(
      { credit: Type.Integer(), tasks: Type.Array(task, { description: 'tasks that the socket keeps' }) },
      { credit: 4, tasks: [] },
    ),
    { id: 14, credit: 4 },
    { id: 15, credit: 4, resume: '0b6f7a1e-5c0d-4f0e-9a53-0d1c2b3a4f5e' },
  ),
  done: row<'done'>()('End a task without a reply', shown({ task }, { task: exampleMessage.id }), {
    id: 16,
    task: exampleMessage.id,
  }),
  release: row<'release'>()(
    'Return a task to the queue, not before `after` seconds',
    shown({ task }, { task: exampleMessage.id }),
    { id: 17, task: exampleMessage.id, after: 60 },
  ),
  auth: row<'auth'>()(
    'Replace the token by a new one for the same sub, before the old token expires',
    shown({ expires_at: time }, { expires_at: '2025-11-06T11:15:00.000Z' }),
    { id: 11, token: 'a JSON Web Token' },
  ),
  ping: row<'ping'>()('Ask whether the server answers', nothing, { id: 12 }),
} satisfies { [T in FrameType]: Row<T, TSchema> }

/** The members of the `ok` to a frame, besides its id. */
export type Answer<T extends FrameType = FrameType> = { [K in T]: Static<(typeof answers)[K]['ok']> }[T]
