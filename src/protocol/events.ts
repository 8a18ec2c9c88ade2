// The events of topics: the schema of each event's data, and an example. They give the AsyncAPI document, and the check of every event that a
// test receives.
import Type, { type Static } from './typebox.ts'
import { exampleMessage, exampleMission, seq } from './answers.ts'
import { Request } from './requests.ts'
import { DodItem, Message, Mission, TestRun } from './rows.ts'

const uuid = Type.String({ format: 'uuid' })
const citizen = Type.String()
const sub = Type.String()
const time = Type.String({ format: 'date-time' })

const run: Static<typeof TestRun> = {
  id: '47000000-0000-4000-8000-000000000301',
  mission_id: exampleMission,
  status: 'passed',
  summary: { functional_passed: 8, functional_total: 10 },
  results: null,
  created_at: '2025-11-06T11:00:30Z',
  seq: 2,
}
const item: Static<typeof DodItem> = {
  id: '47000000-0000-4000-8000-000000000102',
  mission_id: exampleMission,
  text: 'Inline buttons approve or reject it',
  category: 'functional',
  completed: true,
  completed_at: '2025-11-06T12:00:00Z',
  seq: 1,
}
const mission: Static<typeof Mission> = {
  id: exampleMission,
  number: 47,
  title: 'Telegram Notifier',
  client: 'Acme Corp',
  budget: 300,
  deadline: '2025-11-08T23:59:59Z',
  status: 'qa',
  assigned_to: 'person1@scopelock.ai',
  github_url: 'https://github.com/mind-protocol/mission-47',
  created_at: '2025-11-05T09:00:00Z',
  seq: 1,
}
const chunk = { run_id: run.id, mission_id: exampleMission, chunk: 'test_edit_message ... ok\n', seq: 2 }

export const LogChunk = Type.Object(
  {
    run_id: uuid,
    mission_id: uuid,
    chunk: Type.String(),
    seq,
    redacted: Type.Optional(Type.Object({ by: sub, at: time, reason: Type.Union([Type.String(), Type.Null()]) })),
  },
  { title: 'LogChunk', description: "A part added to a run's log, or the whole log" },
)
export const MessageRedacted = Type.Object(
  {
    id: uuid,
    seq: Type.Integer({ description: "the message's seq" }),
    by: sub,
    at: time,
    reason: Type.Union([Type.String(), Type.Null()]),
  },
  { title: 'MessageRedacted', description: 'A message was taken back: its text is gone' },
)
export const Cleared = Type.Object(
  { mission_id: uuid, citizen, by: Type.Union([sub, Type.Null()]), seq },
  { title: 'Cleared', description: 'The chat was cleared: all older messages are deleted' },
)

const request: Static<typeof Request> = {
  id: '47000000-0000-4000-8000-000000000401',
  mission_id: exampleMission,
  citizen: 'rafael',
  kind: 'approve',
  title: 'Deploy to production?',
  body: null,
  options: null,
  task: null,
  expires_at: '2025-11-07T09:00:00Z',
  state: 'open',
  answer: null,
  answered_by: null,
  answered_at: null,
  created_at: '2025-11-06T09:00:00Z',
  seq: 1,
}

/** The events by name: the schema of `data`, an example, and the topic within the mission. */
export const events = {
  'message.created': { data: Message, example: exampleMessage, of: 'chat/rafael' },
  'chat.cleared': {
    data: Cleared,
    example: { mission_id: exampleMission, citizen: 'rafael', by: 'root', seq: 4 },
    of: 'chat/rafael',
  },
  'message.redacted': {
    data: MessageRedacted,
    example: {
      id: exampleMessage.id,
      seq: exampleMessage.seq,
      by: 'person1@scopelock.ai',
      at: '2025-11-06T09:20:00Z',
      reason: null,
    },
    of: 'chat/rafael',
  },
  'test_run.created': { data: TestRun, example: { ...run, status: 'running', summary: null, seq: 1 }, of: 'tests' },
  'test_run.updated': { data: TestRun, example: run, of: 'tests' },
  'log.appended': { data: LogChunk, example: chunk, of: `tests/${run.id}/logs` },
  'log.replaced': { data: LogChunk, example: chunk, of: `tests/${run.id}/logs` },
  'dod_item.created': {
    data: DodItem,
    example: { ...item, completed: false, completed_at: null, seq: 1 },
    of: 'dod',
  },
  'dod_item.updated': { data: DodItem, example: { ...item, seq: 2 }, of: 'dod' },
  'dod_item.deleted': { data: DodItem, example: { ...item, seq: 3 }, of: 'dod' },
  'request.created': { data: Request, example: request, of: 'requests' },
  'request.answered': {
    data: Request,
    example: {
      ...request,
      state: 'answered',
      answer: true,
      answered_by: 'person1@scopelock.ai',
      answered_at: '2025-11-06T09:05:00Z',
      seq: 2,
    },
    of: 'requests',
  },
  'request.expired': { data: Request, example: { ...request, state: 'expired', seq: 2 }, of: 'requests' },
  'request.withdrawn': { data: Request, example: { ...request, state: 'withdrawn', seq: 2 }, of: 'requests' },
  'mission.updated': { data: Mission, example: mission, of: '' },
  'mission.deleted': { data: Mission, example: { ...mission, seq: 2 }, of: '' },
}
