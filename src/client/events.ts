// What followers are given, as types: the events of each topic with their rows, and the signals of a chat.
import type { DodItem, Message, Mission, TestRun } from '../protocol/rows.ts'

type Event<N extends string, D> = { event: N; seq: number; data: D }

/** The seqs held so far mean nothing any more (another epoch): drop what you hold. What comes next is the topic from its start. */
export type Reset = { event: 'reset'; seq: number; epoch: string }

type Cleared = { mission_id: string; citizen: string; by: string | null; seq: number }
export type ChatEvent = Event<'message.created', Message> | Event<'chat.cleared', Cleared> | Reset
export type TestEvent = Event<'test_run.created' | 'test_run.updated', TestRun> | Reset
export type DodEvent = Event<'dod_item.created' | 'dod_item.updated' | 'dod_item.deleted', DodItem> | Reset
export type MissionEvent = Event<'mission.updated' | 'mission.deleted', Mission> | Reset
type Log = { run_id: string; mission_id: string; chunk: string; seq: number }
export type LogEvent = Event<'log.appended' | 'log.replaced', Log> | Reset
/** A mission that may be seen came, changed or went; `reset`: the connection was lost in between, read the list again. */
export type MissionsEvent = { event: 'missions.changed'; mission: string } | Reset

/** What is no part of a chat's history: it has no seq, and may be lost. */
export type ChatSignal =
  /** a reply as it is being written: all of it so far, and what was added from `offset` on */
  | { event: 'draft'; key: string; citizen: string; text: string; offset: number; delta: string }
  /** a reply that was given up */
  | { event: 'aborted'; key: string; citizen: string }
  | { event: 'typing'; sub: string; role: Role; on: boolean }
  /** this sub has read on by another of its sockets */
  | { event: 'read'; seq: number }
  | { event: 'presence'; subs: Present[]; joined: Present[]; left: Present[] }
type Role = 'user' | 'citizen' | 'admin'
export type Present = { sub: string; role: Role; sockets: number }

/** An event of a mission's timeline: as its topic has it, with its topic and the time when it happened. */
export type TimelineEvent = Exclude<ChatEvent | TestEvent | DodEvent | MissionEvent | LogEvent, Reset> & {
  topic: string
  at: string
}
