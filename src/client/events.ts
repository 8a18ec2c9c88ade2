// Types of what followers receive: each topic's events with their rows, and a chat's signals.
import type { Request } from '../protocol/requests.ts'
import type { Activity } from '../protocol/activity.ts'
import type { DodItem, Message, Mission, Question, TestRun } from '../protocol/rows.ts'

type Event<N extends string, D> = { event: N; seq: number; data: D }

/** The epoch changed, and earlier seqs are invalid: discard your copy. A follower with `after` then receives the topic from its start. */
export type Reset = { event: 'reset'; seq: number; epoch: string }

/** A message was taken back: its text and code are gone. `seq`: the message's. */
type MessageRedacted = { id: string; seq: number; by: string; at: string; reason: string | null }
type Cleared = { mission_id: string; citizen: string; by: string | null; seq: number }
export type ChatEvent =
  | Event<'message.created', Message>
  | Event<'message.redacted', MessageRedacted>
  | Event<'chat.cleared', Cleared>
  | Reset
export type TestEvent = Event<'test_run.created' | 'test_run.updated', TestRun> | Reset
export type DodEvent = Event<'dod_item.created' | 'dod_item.updated' | 'dod_item.deleted', DodItem> | Reset
export type RequestEvent =
  Event<'request.created' | 'request.answered' | 'request.expired' | 'request.withdrawn', Request> | Reset
export type MissionEvent = Event<'mission.updated' | 'mission.deleted', Mission> | Reset
type Log = { run_id: string; mission_id: string; chunk: string; seq: number }
export type LogEvent = Event<'log.appended' | 'log.replaced', Log> | Reset
/** A visible mission was created, changed or removed. `reset`: the connection was lost in between, read the list again. */
export type MissionsEvent = { event: 'missions.changed'; mission: string } | Reset

/** Signals are not part of a chat's history: they have no seq and may be lost. */
export type ChatSignal =
  /** a reply that is being written: the whole text so far, the `delta` added at `offset`, and the writer's steps, if there are any */
  | {
      event: 'draft'
      key: string
      citizen: string
      text: string
      offset: number
      delta: string
      activity?: readonly Activity[]
    }
  /** a reply that was aborted */
  | { event: 'aborted'; key: string; citizen: string }
  | { event: 'typing'; sub: string; role: Role; on: boolean }
  /** the same subject has set its read position on another socket */
  | { event: 'read'; seq: number }
  | { event: 'presence'; subs: Present[]; joined: Present[]; left: Present[] }
  | QuestionSignal
/** A question has changed. Sent with `questions: true` only. After a reconnect, read the questions again: changes in between are lost. */
export type QuestionSignal = Question & { event: 'question'; listening: boolean }
type Role = 'user' | 'citizen' | 'admin'
export type Present = { sub: string; role: Role; sockets: number }

/** A timeline event: the topic's event with the topic's name and the time of the event. */
export type TimelineEvent = Exclude<
  ChatEvent | TestEvent | DodEvent | RequestEvent | MissionEvent | LogEvent,
  Reset
> & {
  topic: string
  at: string
}
