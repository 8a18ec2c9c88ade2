// The frames that the server sends, each with its schema, purpose and an example. They give the types of encode.ts, the AsyncAPI
// document, and the check of every frame that a test receives. At run time they are not checked. To add a frame, add an entry here; the
// answers to client frames are in answers.ts.
import Type, { type Static } from './typebox.ts'
import { exampleMessage, exampleMission, exampleTopic, seq, task, time, topic } from './answers.ts'
import { Activity } from './activity.ts'
import { errorCodes } from './errors.ts'
import { taskMembers } from './inbox.ts'
import { Question } from './rows.ts'

const id = Type.Union([Type.Number(), Type.String()], { description: 'ID of the answered frame' })
const role = Type.Union([Type.Literal('user'), Type.Literal('citizen'), Type.Literal('admin')])
const sub = Type.String()
const key = Type.String({ description: 'key of the reply and of its later message' })
const citizen = Type.String()
const uuid = Type.String({ format: 'uuid' })
const count = Type.Integer({ minimum: 0 })
const countOrNone = Type.Union([Type.Number({ minimum: 0 }), Type.Null()], { description: 'null: not limited' })
const retryAfter = Type.Number({ minimum: 0, description: 'seconds' })

export const Limits = Type.Object({
  frame_bytes: count,
  body_bytes: count,
  message_chars: count,
  code_blocks_bytes: count,
  json_depth: count,
  topics: count,
  credit: count,
  pending: count,
  bad_frames: count,
  frames_per_second: countOrNone,
  frames_burst: countOrNone,
  subject_frames_per_second: countOrNone,
  subject_frames_burst: countOrNone,
  requests_per_minute: countOrNone,
  outbox_bytes: count,
  sockets_per_subject: count,
})

const Present = Type.Object({ sub, role, sockets: count }, { title: 'Present' })
const rafael: Static<typeof Present> = { sub: 'rafael', role: 'citizen', sockets: 1 }
const draft = { topic: exampleTopic, key: 'r1', citizen: 'rafael' }
export const serverFrames = {
  welcome: Type.Object(
    { session: Type.String(), sub, role, expires_at: time, instance: Type.String(), limits: Limits },
    {
      description: 'The first frame: the user, the end of the token, and the limits',
      examples: [
        {
          session: '0b6f7a1e-5c0d-4f0e-9a53-0d1c2b3a4f5e',
          sub: 'person1@scopelock.ai',
          role: 'user',
          expires_at: '2025-11-06T10:15:00.000Z',
          instance: '9f2c41d7',
          limits: {
            frame_bytes: 524288,
            body_bytes: 2097152,
            message_chars: 10000,
            code_blocks_bytes: 262144,
            json_depth: 64,
            topics: 1000,
            credit: 100,
            pending: 256,
            bad_frames: 100,
            frames_per_second: 500,
            frames_burst: 2500,
            subject_frames_per_second: 5000,
            subject_frames_burst: 25000,
            requests_per_minute: 30000,
            outbox_bytes: 4194304,
            sockets_per_subject: 10000,
          },
        },
      ],
    },
  ),
  error: Type.Object(
    {
      id: Type.Optional(id),
      topic: Type.Optional(Type.String({ description: 'without an id: the topic whose subscription ends' })),
      code: Type.Enum(errorCodes, { description: 'stable, for programs' }),
      detail: Type.String({ description: 'for people; may change' }),
      retry_after: Type.Optional(retryAfter),
      error_id: Type.Optional(Type.String({ description: 'internal errors only: the error has this ID in the log' })),
      seq: Type.Optional(seq),
      epoch: Type.Optional(Type.String()),
      offset: Type.Optional(Type.Integer({ minimum: 0, description: 'length of the stored draft' })),
      maybe: Type.Optional(Type.Literal(true, { description: 'a message without a key may have been saved' })),
    },
    {
      description: 'A frame was refused (with its id), or a subscription has ended (with its topic and no id)',
      examples: [
        {
          id: 2,
          code: 'conflict',
          detail: '`after` and `epoch` do not match this database: discard your copy and read the topic again',
          seq: 2,
          epoch: '3f0c9a51d2e84b67',
        },
        { topic: exampleTopic, code: 'not_found', detail: 'no such mission' },
        { id: 3, code: 'internal', detail: 'internal error', error_id: '5d2f0c3e-8b1a-4c55-9a7e-2f6d1b0c9e84' },
      ],
    },
  ),
  typing: Type.Object(
    { topic, sub, role, on: Type.Boolean() },
    {
      description: 'Another user started or stopped typing in a followed chat',
      examples: [{ topic: exampleTopic, sub: 'person1@scopelock.ai', role: 'user', on: true }],
    },
  ),
  read: Type.Object(
    { topic, seq },
    { description: 'The same user has read further on another socket', examples: [{ topic: exampleTopic, seq: 3 }] },
  ),
  delta: Type.Union(
    [
      Type.Object({ topic, key, citizen, offset: count, delta: Type.String() }),
      Type.Object({ topic, key, citizen, aborted: Type.Literal(true) }),
    ],
    {
      description: 'The text of a draft from `offset` (in UTF-16 code units), or the draft was aborted',
      examples: [
        { ...draft, offset: 0, delta: 'Edit the ' },
        { ...draft, aborted: true },
      ],
    },
  ),
  activity: Type.Object(
    { topic, key, ...Activity.properties },
    {
      description: 'A step of the writer of a draft, new or updated by its `id`; the draft may have no text yet',
      examples: [{ topic: exampleTopic, key: 'r1', id: 's1', line: 'Reads the specification', status: 'running' }],
    },
  ),
  presence: Type.Object(
    { topic, subs: Type.Optional(Type.Array(Present)), joined: Type.Array(Present), left: Type.Array(Present) },
    {
      description:
        'For subscriptions with `presence`: all followers of the topic, and who joined or left. Above 100 subjects, changes have no `subs`',
      examples: [
        { topic: exampleTopic, subs: [rafael], joined: [rafael], left: [] },
        { topic: exampleTopic, joined: [], left: [{ ...rafael, sockets: 0 }] },
      ],
    },
  ),
  task: Type.Object(
    { ...taskMembers, topic },
    {
      description:
        'A task that this socket has leased. It is sent again with `request` when the request that it waited for has ended',
      examples: [
        {
          topic: exampleTopic,
          task: exampleMessage.id,
          kind: 'message',
          attempt: 1,
          lease_until: '2025-11-06T09:17:30.000Z',
          message: exampleMessage,
        },
      ],
    },
  ),
  cancel: Type.Object(
    {
      topic,
      key: Type.Union([Type.String(), Type.Null()], { description: 'key of the draft; null if there is no draft yet' }),
      task: Type.Optional(task),
      by: sub,
    },
    {
      description: 'To the socket that writes a draft, or holds a task without a draft: a user asks the writer to stop',
      examples: [
        { topic: exampleTopic, key: 'r1', by: 'person1@scopelock.ai' },
        { topic: exampleTopic, task: exampleMessage.id, key: null, by: 'person1@scopelock.ai' },
      ],
    },
  ),
  question: Type.Object(
    { topic, listening: Type.Boolean(), ...Question.properties },
    {
      description:
        'For subscriptions with `questions`: the state of a question has changed. Not stored, may be lost: read the questions again after a reconnect',
      examples: [
        {
          topic: exampleTopic,
          listening: true,
          id: exampleMessage.id,
          seq: 3,
          state: 'working',
          attempt: 1,
          since: '2025-11-06T09:17:02.000Z',
          until: '2025-11-06T09:17:32.000Z',
          answer: null,
        },
      ],
    },
  ),
  'missions.changed': Type.Object(
    { mission: uuid },
    {
      description: 'To followers of `missions`: this mission was created, changed or deleted; read it again over HTTP',
      examples: [{ mission: exampleMission }],
    },
  ),
  heads: Type.Object(
    { topics: Type.Record(Type.String(), seq) },
    {
      description: 'Every 25 s: the latest seq of each followed topic',
      examples: [{ topics: { [exampleTopic]: 3 } }],
    },
  ),
  goodbye: Type.Object(
    { reason: Type.String(), retry_after: retryAfter },
    {
      description: 'Before the server closes the socket: seconds to wait before reconnecting',
      examples: [{ reason: 'restart', retry_after: 2.4 }],
    },
  ),
}
export type ServerFrameType = keyof typeof serverFrames
export type ServerFrame<T extends ServerFrameType> = Static<(typeof serverFrames)[T]>
