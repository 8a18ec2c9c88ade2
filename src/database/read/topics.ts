// The statements of readers and the hub about topics. A topic's rows, its head and the mission's assignee come from one statement and so
// from one snapshot: no row is sent under rights older than the row.
import type pg from 'pg'
import type { MissionRights, Page } from '../../protocol/rows.ts'
import { topicParts, type MissionRef } from '../../protocol/topics.ts'
import { makeBatched } from '../postgres/batcher.ts'
import { toMessage, toRights, type MessageColumns, type MissionColumns } from '../postgres/columns.ts'
import type { Epochs } from '../postgres/epoch.ts'
import { refValues } from './read-mission.ts'
import * as sql from './topics.sql.ts'

/** A topic's latest seq and its mission's rights. `exists` is false if the topic's test run does not exist. */
export type Place = { mission: MissionRights | undefined; exists: boolean; head: number; epoch: string; asOf: number }

/** The stamp differs after each change of the mission. */
type Assigned = { id: string; number: number; assigned: string[]; stamp: string }
type NewChat = { topic: string; id: string; number: number; assigned: string[]; fresh: boolean }

/** `patience`: ms until a lookup rejects with `unavailable`. */
export const makeStore = (main: pg.Pool, tail: pg.Pool, patience: number, { saw }: Pick<Epochs, 'saw'>) => {
  /** Looks up a topic. Concurrent calls share a statement. */
  const place = makeBatched(
    async (asked: { mission: MissionRef; suffix: string; run: string | null }[]): Promise<Place[]> => {
      const refs = asked.map(({ mission }) => refValues(mission))
      const asOf = performance.now()
      const { rows } = await main.query<MissionColumns & { head: number; exists: boolean; epoch: string }>({
        name: 'place',
        text: sql.place,
        values: [
          refs.map(([id]) => id),
          refs.map(([, number]) => number),
          asked.map((a) => a.suffix),
          asked.map((a) => a.run),
          asked.map((a) => (a.suffix.startsWith('/chat/') ? a.suffix.slice(6) : null)),
        ],
      })
      if (rows[0]) saw('epoch', rows[0].epoch, asOf)
      return rows.map((row) => ({ mission: toRights(row), exists: row.exists, head: row.head, epoch: row.epoch, asOf }))
    },
    { max: 200, patience },
  )

  // Returns up to `limit` rows and `bytes` bytes per topic, except for the last row. Each subscriber that catches up holds a page in memory.
  const pages = async (
    connection: pg.Pool | pg.PoolClient,
    asked: { topic: string; after: number }[],
    limit: number,
    bytes: number,
  ): Promise<Page[]> => {
    const parts = asked.map(({ topic }) => topicParts(topic))
    const asOf = performance.now()
    const { rows } = await connection.query<
      MissionColumns & {
        n: number
        head: number
        event: string | null
        data: string | null
        through: number
        stamp: string
      } & (MessageColumns | { seq: null })
    >({
      name: 'pages',
      text: sql.pages,
      values: [
        asked.map((a) => a.topic),
        asked.map((a) => a.after),
        parts.map((p) => p.mission),
        parts.map((p) => p.citizen),
        limit,
        bytes,
      ],
    })
    if (rows[0]) saw('stamp', rows[0].stamp, asOf)
    const size = asked.map(() => 0)
    const found: Page[] = asked.map(({ after }) => ({ events: [], covered: after, head: 0, mission: undefined, asOf }))
    for (const row of rows) {
      const i = row.n - 1
      const page = found[i]
      const part = parts[i]
      if (!page || !part) continue
      page.head = row.head
      page.mission ??= toRights(row)
      if (row.seq === null) continue
      size[i] = row.through
      const { event, data } = row
      page.events.push(
        event !== null && data !== null
          ? { seq: row.seq, event, data }
          : {
              seq: row.seq,
              event: 'message.created',
              data: JSON.stringify(toMessage(row, part.mission, part.citizen ?? '')),
            },
      )
    }
    for (const [i, page] of found.entries()) {
      const { covered, head, events } = page
      const whole = events.length < limit && (size[i] ?? 0) < bytes
      page.covered = Math.max(covered, whole ? head : (events.at(-1)?.seq ?? head))
    }
    return found
  }

  return {
    place,

    /** Reads the next pages of topics for the tail, with one statement on the tail's connection. */
    tailPages: (asked: { topic: string; after: number }[], limit: number, bytes: number) =>
      pages(tail, asked, limit, bytes),

    /** Reads the next page of one topic for a subscription that catches up. `begun` is called once a connection is available. */
    async page(topic: string, after: number, limit: number, bytes: number, begun: () => void): Promise<Page> {
      const client = await main.connect()
      let failed = true
      try {
        begun()
        const [page] = await pages(client, [{ topic, after }], limit, bytes)
        failed = false
        return page as Page
      } finally {
        client.release(failed)
      }
    },

    /** Returns the topics' latest seqs in order; 0 for a topic without rows. */
    async heads(topics: string[]): Promise<number[]> {
      const asOf = performance.now()
      const parts = topics.map(topicParts)
      const { rows } = await tail.query<{ seq: number; epoch: string }>({
        name: 'heads',
        text: sql.heads,
        values: [topics, parts.map((p) => p.mission), parts.map((p) => p.citizen)],
      })
      if (rows[0]) saw('epoch', rows[0].epoch, asOf)
      return rows.map(({ seq }) => seq)
    },

    /** Returns the seq before a chat's newest `count` messages up to `head`; `head` if there are none. */
    async newest(mission: string, citizen: string, head: number, count: number): Promise<number> {
      const { rows } = await main.query<{ seq: number }>({
        name: 'newest',
        text: `select coalesce(min(seq) - 1, $3::bigint) as seq from (
                 select seq from chat_messages where mission_id = $1 and citizen = $2 and seq <= $3::bigint
                 order by seq desc limit $4) x`,
        values: [mission, citizen, head, count],
      })
      return rows[0]?.seq ?? head
    },

    /** Returns the current epoch. */
    async epoch(): Promise<string> {
      const { rows } = await main.query<{ epoch: string }>({ name: 'epoch', text: 'select deck.epoch() as epoch' })
      return rows[0]?.epoch ?? ''
    },

    /** Returns a name for this database. It stays the same after a failover, and changes when a dump is restored. */
    async space(): Promise<string> {
      const { rows } = await main.query<{ space: string }>({
        name: 'space',
        text: `select to_hex(c.system_identifier) || '_' || d.oid as space
               from pg_control_system() c, pg_database d where d.datname = current_database()`,
      })
      return rows[0]?.space ?? ''
    },

    /** Sends other payloads than latest seqs to the instances that follow the topics. */
    signal: (topics: string[], payloads: string[]) =>
      main.query({
        name: 'signal',
        text: `select pg_notify(deck.hint_channel(topic), payload) from unnest($1::text[], $2::text[]) as t (topic, payload)`,
        values: [topics, payloads],
      }),

    /** Returns the id of a transaction before which all have ended. Changes since then are those by transactions that are not older. */
    async mark(): Promise<string> {
      const { rows } = await main.query<{ mark: string }>({
        name: 'mark',
        text: 'select pg_snapshot_xmin(pg_current_snapshot())::xid::text as mark',
      })
      return rows[0]?.mark ?? ''
    },

    /**
     * Returns those of the missions that were changed since a mark. `assigned`: a mission's assignee and members, and those before its
     * last changes. The stamp differs after each change. Deleted missions are found by their events.
     */
    async assigned(missions: string[], since: string): Promise<Assigned[]> {
      const { rows } = await main.query<Assigned>({
        name: 'assigned',
        text: sql.assigned,
        values: [missions, since],
      })
      return rows
    },

    /** Returns those of the chats that exist, with their missions, and whether each was created since a mark. */
    async newChats(topics: string[], since: string): Promise<NewChat[]> {
      const { rows } = await main.query<NewChat>({
        name: 'new-chats',
        text: sql.newChats,
        values: [topics, since],
      })
      return rows
    },

    /** Returns the key with which instances encrypt their payloads, and the database's time (ms) at `at` (performance.now). */
    async sealKey(): Promise<{ key: Buffer; time: number; at: number }> {
      const asked = performance.now()
      const { rows } = await main.query<{ key: Buffer; time: number }>({
        name: 'seal key',
        text: 'select key, extract(epoch from clock_timestamp())::float8 * 1000 as time from deck.seal_key',
      })
      if (!rows[0]) throw new Error('deck.seal_key is empty')
      return { ...rows[0], at: (asked + performance.now()) / 2 }
    },

    /** Returns the columns that permissions depend on, for those of the missions that exist. */
    async rights(missions: string[]): Promise<{ found: MissionRights[]; asOf: number }> {
      const asOf = performance.now()
      const { rows } = await main.query<MissionRights>({
        name: 'rights',
        text: 'select id, number, assigned_to, members from missions where id = any ($1)',
        values: [missions],
      })
      return { found: rows, asOf }
    },
  }
}
export type Store = ReturnType<typeof makeStore>
