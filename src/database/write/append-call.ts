// The calls of deck.append_message, deck.append_messages and deck.append_replies (db/functions/append.sql): their parameters and
// results.
import type pg from 'pg'
import type { Details } from '../../protocol/activity.ts'
import type { Message, MissionRights } from '../../protocol/rows.ts'
import { booleans, integers, nullableUuids, texts, uuids } from '../postgres/binary-arrays.ts'
import type { Entry, Pending } from './pending-message.ts'

type Saved = Pick<Message, 'id' | 'sender' | 'author' | 'message' | 'in_reply_to'> & {
  code_blocks: unknown
  details: Details | null
}
/** An entry that was not saved as sent. `key` is present only for the outcome 'changed'. */
export type Other = {
  n: number
  outcome: string
  seq: number
  created_at: string
  saved: (Saved & { key?: string | null }) | null
}
/** What became of a batch. `places`: for each topic its seq and time before the batch's messages. `rights`: of the topics' missions. */
export type Outcome = {
  places: [head: number, at: string][]
  others: Other[]
  rights: MissionRights[]
  stamp: string
}

/** What a procedure returns. */
type BatchRow = { places: string; others: string | null; rights: string | null; stamp: string }
type MessageRow = {
  head: number
  at: string
  others: string | null
  number: number | null
  assigned_to: string
  members: string[] | null
  stamp: string
}

/** `more`: the procedure's parameters after the shared ones. */
const textOf = (procedure: string, more = ''): string => `call deck.${procedure}(
  $1::text[], $2::integer[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::boolean[],
  $11::text[], $12, $13${more})`
const append = textOf('append_messages')
const appendReplies = textOf('append_replies', ', $14::uuid[], $15::uuid[], $16::uuid[], $17::text[]')
const appendMessage = 'call deck.append_message($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)'

/** A batch's topics, for each entry the position of its topic among them, from 1, and the call that writes it. */
export type Call = {
  topics: string[]
  chats: number[]
  run(client: pg.ClientBase): Promise<Outcome | undefined>
}

const othersOf = (text: string | null): Other[] => (text === null ? [] : (JSON.parse(text) as Other[]))

/** Whether an entry needs deck.append_replies. */
const hasMore = ({ entry }: Pending): boolean =>
  entry.task !== undefined || entry.reply_to !== null || entry.details !== undefined

/** Returns the call that writes a batch. */
export const callOf = (live: Pending[], wait: number, origin: string): Call => {
  const [only] = live
  if (only && live.length === 1 && wait === 0 && !only.again && !only.entry.by && !hasMore(only))
    return callOfMessage(only, origin)
  const topics = [...new Set(live.map(({ entry }) => entry.topic))].sort()
  const place = new Map(topics.map((topic, i) => [topic, i]))
  const chats = live.map(({ entry }) => (place.get(entry.topic) ?? 0) + 1)
  const column = (of: (entry: Entry) => string | null | undefined): Buffer | null =>
    texts(live.map(({ entry }) => of(entry)))
  const values = [
    texts(topics),
    integers(chats),
    uuids(live.map(({ entry }) => entry.id)),
    column(({ sender }) => sender),
    column(({ author }) => author),
    column(({ assigned }) => assigned),
    column(({ message }) => message),
    column(({ code_blocks }) => code_blocks && JSON.stringify(code_blocks)),
    column(({ key }) => key),
    booleans(live.map(({ again }) => again)),
    column(({ by }) => by),
    wait,
    origin,
  ]
  // Only a batch with replies checks tasks and the messages that are answered.
  const replies = live.some(hasMore)
  const named = live.some(({ entry }) => entry.reply_to !== null && !entry.task)
  if (replies)
    values.push(
      nullableUuids(live.map(({ entry }) => entry.task?.id)),
      nullableUuids(live.map(({ entry }) => entry.task?.holder)),
      named ? nullableUuids(live.map(({ entry }) => (entry.task ? null : entry.reply_to))) : null,
      column(({ details }) => details && JSON.stringify(details)),
    )
  const statement = replies
    ? { name: 'append-replies', text: appendReplies, values }
    : { name: 'append', text: append, values }
  return {
    topics,
    chats,
    async run(client) {
      const [row] = (await client.query<BatchRow>(statement)).rows
      if (!row) return undefined
      const rights = JSON.parse(row.rights ?? '[]') as [string, number, string, string[] | null][]
      return {
        places: JSON.parse(row.places) as Outcome['places'],
        others: othersOf(row.others),
        rights: rights.map(([id, number, assigned_to, members]) => ({ id, number, assigned_to, members })),
        stamp: row.stamp,
      }
    },
  }
}

/** The same for one message that was not sent before, is not audited and ends no task. */
const callOfMessage = ({ entry, mission, citizen }: Pending, origin: string): Call => {
  const { id, sender, author, assigned, message, code_blocks, key } = entry
  const blocks = code_blocks && JSON.stringify(code_blocks)
  const values = [mission, citizen, id, sender, author, assigned, message, blocks, key, origin]
  return {
    topics: [entry.topic],
    chats: [1],
    async run(client) {
      const [row] = (await client.query<MessageRow>({ name: 'append-message', text: appendMessage, values })).rows
      return (
        row && {
          places: [[row.head, row.at]],
          others: othersOf(row.others),
          rights:
            row.number === null
              ? []
              : [{ id: mission, number: row.number, assigned_to: row.assigned_to, members: row.members }],
          stamp: row.stamp,
        }
      )
    },
  }
}
