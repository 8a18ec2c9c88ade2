// An entry: a message on its way into the log, and what waits for its answer.
import { randomUUID } from 'node:crypto'
import type { CodeBlock, Message } from '../../protocol/rows.ts'

/** A message to be written. */
export type Entry = {
  topic: string
  id: string
  sender: Message['sender']
  author: string | null
  /** whom the mission must still be assigned to, if the writer's right rests on it */
  assigned: string | null
  message: string
  code_blocks: CodeBlock[] | null
  key: string | null
  /** the admin who writes it as another, for the audit */
  by?: string
  /** the task that it ends, and the session that has to hold it */
  task?: { id: string; holder: string }
}

/** A message's JSON text; `seen`: the key had been used, and this is what the first send saved. */
export type Written = { seq: number; message: string; seen: boolean }

/** An entry that waits for its answer, between its neighbours in the list of all that do. */
export type Pending = {
  before: Pending | undefined
  after: Pending | undefined
  entry: Entry
  bytes: number
  mission: string
  citizen: string
  /** when its request came, and when it is given up (performance.now) */
  since: number
  due: number
  /** whether a call with it may have committed without our knowing */
  again: boolean
  inFlight: boolean
  settled: boolean
  resolve: (written: Written) => void
  reject: (refusal: unknown) => void
}

/** A UUID of version 7: rows that follow one another stand side by side in the index. */
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
  }: Pick<Message, 'id' | 'sender' | 'author' | 'message' | 'code_blocks' | 'key'>,
  created_at: string,
  seq: number,
): string => {
  const row: Message = { id, mission_id: mission, citizen, sender, author, message, code_blocks, created_at, seq, key }
  return JSON.stringify(row)
}
