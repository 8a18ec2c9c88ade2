// An entry: a message that is to be written, and the request that waits for its result.
import { randomUUID } from 'node:crypto'
import type { Details } from '../../protocol/activity.ts'
import type { CodeBlock, Message } from '../../protocol/rows.ts'

/** A message to be written. */
export type Entry = {
  topic: string
  id: string
  sender: Message['sender']
  author: string | null
  /** the person who must still be the mission's assignee or a member, if the writer's permission depends on it */
  assigned: string | null
  message: string
  code_blocks: CodeBlock[] | null
  key: string | null
  /** the message of the same chat that it answers */
  reply_to: string | null
  /** what its writer did and used */
  details?: Details | undefined
  /** the admin who writes under the author's name, for the audit log */
  by?: string
  /** the task that the message ends, and the session that must hold it */
  task?: { id: string; holder: string }
}

/** A message's JSON text. `seen`: the key was used before, and `message` is what the first request saved. */
export type Written = { seq: number; message: string; seen: boolean }

/** An entry that waits for its result: a node of the writer's linked list. */
export type Pending = {
  before: Pending | undefined
  after: Pending | undefined
  entry: Entry
  bytes: number
  mission: string
  citizen: string
  /** when the request arrived, and when it ends as `unavailable` (performance.now) */
  since: number
  due: number
  /** whether a call with this entry may have committed although its answer was lost */
  again: boolean
  inFlight: boolean
  settled: boolean
  resolve: (written: Written) => void
  reject: (refusal: unknown) => void
}

/** Returns a version 7 UUID: it starts with the time, so that consecutive rows are neighbours in the index. */
export const newId = (): string => {
  const time = Date.now().toString(16).padStart(12, '0')
  return `${time.slice(0, 8)}-${time.slice(8)}-7${randomUUID().slice(15)}`
}

/** The message's JSON text. */
export const encode = (
  { mission, citizen }: Pick<Pending, 'mission' | 'citizen'>,
  {
    id,
    sender,
    author,
    message,
    code_blocks,
    key,
    details,
  }: Pick<Message, 'id' | 'sender' | 'author' | 'message' | 'code_blocks' | 'key'> & {
    details?: Details | null | undefined
  },
  in_reply_to: string | null,
  created_at: string,
  seq: number,
): string => {
  const row: Message = {
    id,
    mission_id: mission,
    citizen,
    sender,
    author,
    message,
    code_blocks,
    created_at,
    seq,
    key,
    in_reply_to,
  }
  if (details) Object.assign(row, details)
  return JSON.stringify(row)
}
