// Requests to people: the API's reads and changes. Rows are returned as the database's JSON text. A request ends only once: the first
// answer, withdrawal or expiry counts.
import type pg from 'pg'
import { deny } from '../../protocol/errors.ts'
import type { Visible } from '../../access/policy.ts'
import type { NewRequest } from '../../protocol/requests.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import { perMission } from '../bounds.ts'
import { headOf } from '../postgres/columns.ts'
import { quoted, utc, type Allow, type Transactions } from '../postgres/transaction.ts'
import { readOpenRequests, type OpenCursor } from '../read/open-requests.ts'
import { epochColumn, readMission, selectMission } from '../read/read-mission.ts'
import { pageOfRuns, type RunCursor, type RunRow } from './test-runs.ts'

/**
 * A page of a mission's requests, newest first. A mission without requests yields one row whose `id` is null.
 *
 * $3 only requests of this state, or null
 * $4, $5 only requests older than the one with this creation time (RFC 3339) and ID, or null
 * $6 maximum number of requests
 */
const page = selectMission({
  columns: 'r.*',
  joins: `
  left join lateral (
    select t.id, t.created_at, deck.request_json(t)::text as json from deck.requests t
    where t.mission_id = m.id and ($3::text is null or t.state = $3)
      and ($4::timestamptz is null or (t.created_at, t.id) < (${utc('$4')}, $5::uuid))
    order by t.created_at desc, t.id desc limit $6
  ) r on true
  order by r.created_at desc, r.id desc`,
})

/** One request; $3: its ID. `head` is the latest seq of the mission's requests. */
const one = selectMission({
  once: `${epochColumn}, ${headOf("'missions/' || m.id || '/requests'", 'm.id', 'null')} as head`,
  columns: 'r.json, r.state',
  joins: `
  left join lateral (
    select deck.request_json(t)::text as json, t.state from deck.requests t where t.mission_id = m.id and t.id = $3::uuid limit 1
  ) r on true`,
})

export type RequestQuery = { state?: string; before?: RunCursor; limit: number }

/** Why deck.end_request() did not end a request. */
const refusals: Record<string, () => Error> = {
  missing: () => deny('not_found', 'no such request'),
  ended: () => deny('conflict', 'the request is not open any more'),
  unfit: () =>
    deny('bad_request', 'body answer does not fit: a boolean, one of the options, or a text, by the kind of request'),
}

export const makeRequests = (pool: pg.Pool, { transaction, enter, settle, write }: Transactions) => {
  const rowOf = (id: string): string =>
    `select deck.request_json(r)::text as json from deck.requests r where id = ${quoted(id)}`

  return {
    /** Returns up to `limit` requests, as many as fit into a response, at least one. */
    list: (ref: MissionRef, { state, before, limit }: RequestQuery) =>
      pageOfRuns(limit, before, async (cursor, count) => {
        const { mission, rows } = await readMission<RunRow>(pool, {
          ref,
          name: 'requests',
          text: page,
          values: [state, cursor?.at, cursor?.id, count],
        })
        return { mission, rows }
      }),

    /** Returns open requests of all visible missions, the first to expire first: up to `limit`, as many as fit into a response. */
    listOpen: (visible: Visible, query: { after?: OpenCursor; limit: number }) =>
      readOpenRequests(pool, visible, query),

    /** Returns a request with the latest seq of its topic, read at `asOf` (performance.now). `json` is null if it does not exist. */
    async read(ref: MissionRef, id: string) {
      const asOf = performance.now()
      const { mission, rows } = await readMission<{ json: string | null; state: string | null; head: number }>(pool, {
        ref,
        name: 'request',
        text: one,
        values: [id],
      })
      const { json = null, state = null, head = 0 } = rows[0] ?? {}
      return { mission, json, state, head, asOf }
    },

    make: (ref: MissionRef, allow: Allow, citizen: string, given: NewRequest): Promise<string> =>
      transaction(async (client) => {
        const mission = await enter(client, ref, allow)
        const { rows: open } = await client.query<{ count: number }>(
          `select count(*)::integer as count from (
             select from deck.requests where mission_id = $1 and state = 'open' limit ${perMission.openRequests}) x`,
          [mission],
        )
        if ((open[0]?.count ?? 0) >= perMission.openRequests)
          throw deny('conflict', `a mission has up to ${perMission.openRequests} open requests`)
        const { kind, title, body, options, task, expires_in } = given
        const { rows } = await client.query<{ id: string }>('select deck.ask($1, $2, $3, $4, $5, $6, $7, $8) as id', [
          mission,
          citizen,
          kind,
          title,
          body,
          options,
          task,
          expires_in,
        ])
        return settle(client, rowOf(rows[0]?.id ?? ''))
      }),

    /** Answers a request (`answer`) or withdraws it, in the name of `by`. `allow` is called with the request's citizen, too. */
    end: (
      ref: MissionRef,
      allow: (mission: Parameters<Allow>[0], citizen: string | undefined) => void,
      id: string,
      ending: { state: 'answered'; answer: boolean | string } | { state: 'withdrawn' },
      by: string,
    ): Promise<string> =>
      transaction(async (client) => {
        const { rows: found } = await client.query<{ citizen: string }>(
          'select citizen from deck.requests where id = $1',
          [id],
        )
        const mission = await enter(client, ref, (m) => allow(m, found[0]?.citizen))
        const answer = ending.state === 'answered' ? JSON.stringify(ending.answer) : null
        const { rows } = await client.query<{ refused: string | null }>(
          'select deck.end_request($1, $2, $3, $4, $5) as refused',
          [mission, id, ending.state, answer, by],
        )
        const refused = rows[0]?.refused
        if (refused) throw refusals[refused]?.() ?? new Error(refused)
        return settle(client, rowOf(id))
      }),

    /** Expires the requests whose time has come. */
    async expire(): Promise<void> {
      await write('select deck.expire_requests()')
    },
  }
}
export type Requests = ReturnType<typeof makeRequests>
