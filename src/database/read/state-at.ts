// Past states: a mission, its checklist and its test runs at a time, from each row's last event up to that time; for a chat, the seq that it
// had reached. Side tables hold what is not in events: a mission's first state, and the sort keys of deleted rows.
//
// Lists have today's order. For a time in the future the committed state is returned.
import type pg from 'pg'
import { deny } from '../../protocol/errors.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import * as sql from './state-at.sql.ts'
import { readMission, type MissionRead } from './read-mission.ts'
import type { RequestQuery } from '../write/requests.ts'
import { pageOfRuns, type RunCursor, type RunRow } from '../write/test-runs.ts'

type Row = { existed: boolean; pruned: string | null; json: string | null }

const toPast = ({ mission, rows: [row] }: Pick<MissionRead<Row>, 'mission' | 'rows'>) => {
  // A function, because the caller checks rights before it calls it.
  const known = (): string => {
    if (!row?.existed) throw deny('not_found', 'the mission did not exist at that time')
    if (row.pruned !== null) throw deny('not_found', `history before ${row.pruned} was pruned`)
    if (row.json === null) throw deny('not_found', 'it did not exist at that time, or its history is unknown')
    return row.json
  }
  return { mission, known }
}

/** `main` is for reads. */
export const makePast = (main: pg.Pool) => ({
  mission: async (ref: MissionRef, at: string) =>
    toPast(await readMission<Row>(main, { ref, name: 'past-mission', text: sql.mission, values: [at] })),

  checklist: async (ref: MissionRef, at: string) =>
    toPast(await readMission<Row>(main, { ref, name: 'past-checklist', text: sql.checklist, values: [at] })),

  /** Returns runs, newest first, or those that follow `before`; as many as fit into a response. */
  listRuns: (ref: MissionRef, { before, limit }: { before?: RunCursor; limit: number }, at: string) =>
    pageOfRuns(limit, before, async (cursor, count) => {
      const { mission, rows } = await readMission<Row & RunRow>(main, {
        ref,
        name: 'past-runs',
        text: sql.runPage,
        values: [at, cursor?.at, cursor?.id, count],
      })
      return { ...toPast({ mission, rows: rows.map((row) => ({ ...row, json: '' })) }), rows }
    }),

  /** Returns requests to people, newest first, or those that follow `before`; as many as fit into a response. */
  listRequests: (ref: MissionRef, { state, before, limit }: RequestQuery, at: string) =>
    pageOfRuns(limit, before, async (cursor, count) => {
      const { mission, rows } = await readMission<Row & RunRow>(main, {
        ref,
        name: 'past-requests',
        text: sql.requestPage,
        values: [at, state, cursor?.at, cursor?.id, count],
      })
      return { ...toPast({ mission, rows: rows.map((row) => ({ ...row, json: '' })) }), rows }
    }),

  request: async (ref: MissionRef, id: string, at: string) =>
    toPast(await readMission<Row>(main, { ref, name: 'past-request', text: sql.request, values: [at, id] })),

  /** Returns a run, or the newest run of that time (null). */
  run: async (ref: MissionRef, run: string | null, at: string) =>
    toPast(
      await readMission<Row>(main, {
        ref,
        name: run === null ? 'past-run-latest' : 'past-run',
        text: run === null ? sql.latestRun : sql.run,
        values: [at, run],
      }),
    ),

  /** Returns the latest seq of a chat at that time. */
  async chat(ref: MissionRef, citizen: string, at: string) {
    const { mission, known } = toPast(
      await readMission<Row>(main, { ref, name: 'past-chat', text: sql.chat, values: [at, citizen] }),
    )
    return { mission, known: () => Number(known()) }
  },
})
export type Past = ReturnType<typeof makePast>
