// Batches of messages written to the database with the same call as the server's writer.
import { randomUUID } from 'node:crypto'
import type { Row } from './database.ts'

/** An entry. By default it is the message 'hi' of a user in rafael's chat. */
export type Entry = {
  mission: string
  citizen?: string
  id?: string
  author?: string
  assigned?: string
  message?: string
  key?: string
  again?: boolean
}
export type Outcome = { outcome: string; seq: number | null; created_at: string | null; saved: Row | null }
type Client = { query(text: string, values: unknown[]): Promise<{ rows: Row[] } | Row[]> }

/** Calls deck.save_messages once. Returns the outcomes in the order of the entries. `wait`: ms for each lock; 0 never waits. */
export const append = async (client: Client, entries: Entry[], wait = 0): Promise<Outcome[]> => {
  const topicOf = ({ mission, citizen = 'rafael' }: Entry): string => `missions/${mission}/chat/${citizen}`
  const topics = [...new Set(entries.map(topicOf))].sort()
  const column = (of: (entry: Entry) => unknown) => entries.map((entry) => of(entry) ?? null)
  const answer = await client.query(
    `select places, others from deck.save_messages($1::text[], $2::integer[], $3::uuid[], $4::text[], $5::text[], $6::text[],
       $7::text[], null, $8::text[], $9::boolean[], null, $10, 'test')`,
    [
      topics,
      column((entry) => topics.indexOf(topicOf(entry)) + 1),
      column(({ id }) => id ?? randomUUID()),
      column(() => 'user'),
      column(({ author }) => author),
      column(({ assigned }) => assigned),
      column(({ message }) => message ?? 'hi'),
      column(({ key }) => key),
      column(({ again }) => again),
      wait,
    ],
  )
  const [row] = (Array.isArray(answer) ? answer : answer.rows) as {
    places: string | [number, string][]
    others: string | (Outcome & { n: number })[] | null
  }[]
  const read = <T>(json: string | T): T => (typeof json === 'string' ? (JSON.parse(json) as T) : json)
  const places = read(row?.places ?? [])
  const others = read(row?.others ?? null) ?? []
  const next = places.map(([head]) => head)
  return entries.map((entry, i) => {
    const other = others.find(({ n }) => n === i + 1)
    if (other)
      return {
        outcome: other.outcome,
        seq: other.seq ?? null,
        created_at: other.created_at ?? null,
        saved: other.saved ?? null,
      }
    const chat = topics.indexOf(topicOf(entry))
    const seq = (next[chat] ?? 0) + 1
    next[chat] = seq
    return { outcome: 'saved', seq, created_at: places[chat]?.[1] ?? null, saved: null }
  })
}
