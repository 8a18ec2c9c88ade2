// The calls of deck.append_messages and deck.append_replies (db/functions/append.sql): their values, and what they return.
import type { Message } from '../../protocol/rows.ts'
import { booleans, integers, nullableUuids, texts, uuids } from '../postgres/binary-arrays.ts'
import type { Entry, Pending } from './pending-message.ts'

type Saved = Pick<Message, 'id' | 'sender' | 'author' | 'message'> & { code_blocks: unknown }
/** An entry that was not saved as sent. `key`: only if the message is stored otherwise than sent. */
export type Other = {
  n: number
  outcome: string
  seq: number
  created_at: string
  saved: (Saved & { key?: string | null }) | null
}
/** places: [head, at]; rights: [mission, number, assigned_to] */
export type Outcome = {
  places: string
  others: string | null
  rights: string | null
  stamp: string
}

/** `more`: the procedure's parameters after those that both have. */
const textOf = (procedure: string, more = ''): string => `call deck.${procedure}(
  $1::text[], $2::integer[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::boolean[],
  $11::text[], $12, $13${more})`
const append = textOf('append_messages')
const appendReplies = textOf('append_replies', ', $14::uuid[], $15::uuid[]')

/** The statement that writes a batch; its topics, and for each entry the position of its topic among them, from 1. */
export const callOf = (live: Pending[], wait: number, origin: string) => {
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
  // Only a batch with replies that end tasks checks tasks.
  const replies = live.some(({ entry }) => entry.task !== undefined)
  if (replies)
    values.push(
      nullableUuids(live.map(({ entry }) => entry.task?.id)),
      nullableUuids(live.map(({ entry }) => entry.task?.holder)),
    )
  const statement = replies
    ? { name: 'append-replies', text: appendReplies, values }
    : { name: 'append', text: append, values }
  return { topics, chats, statement }
}
