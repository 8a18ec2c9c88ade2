// A mission as it was at a time: itself, its checklist, its test runs, made from the last event of each row up to then; of a chat, where
// it stood. What events do not tell stands in side tables: how a mission began, and what places a deleted row in a list. Lists have the order that they have
// today. A time that is not yet over is answered by what is committed.
import type pg from 'pg'
import { deny } from '../../protocol/errors.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import * as sql from './state-at.sql.ts'
import { readMission, type MissionRead } from './read-mission.ts'
import { pageOfRuns, type RunCursor, type RunRow } from '../write/test-runs.ts'

type Row = { existed: boolean; pruned: string | null; json: string | null }

const toPast = ({ mission, rows: [row] }: Pick<MissionRead<Row>, 'mission' | 'rows'>) => {
  // Whether one may see it is asked first.
  const known = (): string => {
    if (!row?.existed) throw deny('not_found', 'the mission did not exist at that time')
    if (row.pruned !== null) throw deny('not_found', `history before ${row.pruned} was pruned`)
    if (row.json === null) throw deny('not_found', 'it did not exist at that time, or its history is unknown')
    return row.json
  }
  return { mission, known }
}

/** `main` is for reading. */
export const makePast = (main: pg.Pool) => ({
  mission: async (ref: MissionRef, at: string) =>
    toPast(await readMission<Row>(main, { ref, name: 'past-mission', text: sql.mission, values: [at] })),

  checklist: async (ref: MissionRef, at: string) =>
    toPast(await readMission<Row>(main, { ref, name: 'past-checklist', text: sql.checklist, values: [at] })),

  /** Runs from the newest on, or from behind one; as many as fit into an answer. */
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

  /** One run, or (null) the newest that there was. */
  run: async (ref: MissionRef, run: string | null, at: string) =>
    toPast(
      await readMission<Row>(main, {
        ref,
        name: run === null ? 'past-run-latest' : 'past-run',
        text: run === null ? sql.latestRun : sql.run,
        values: [at, run],
      }),
    ),

  /** Where a chat stood: what was said there up to then has no greater seq. */
  async chat(ref: MissionRef, citizen: string, at: string) {
    const { mission, known } = toPast(
      await readMission<Row>(main, { ref, name: 'past-chat', text: sql.chat, values: [at, citizen] }),
    )
    return { mission, known: () => Number(known()) }
  },
})
export type Past = ReturnType<typeof makePast>
