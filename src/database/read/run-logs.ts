// Run logs, read: any part of a log by its place in bytes, and its last lines from the end, at the cost of what is read and in the
// memory of a page. A log that is read is the one of the first statement, whatever is added or replaced meanwhile.
import type pg from 'pg'
import type { MissionRef } from '../../protocol/topics.ts'
import { epochColumn, readMission, selectMission } from './read-mission.ts'

/** Bytes of chunks that a page holds, but for one chunk. */
const pageBytes = 256 * 1024

/** What a log was at one moment: `first` is the seq that it began with. */
export type LogState = { topic: string; run: string; first: number; size: number }

/** The log of a run since it was last replaced, in one row; $3: the run's ID. */
const logOf = selectMission({
  columns: `t.id as run, s.first, s.upto as size, ${epochColumn}`,
  joins: `
  left join test_runs t on t.mission_id = m.id and t.id = $3
  left join lateral (
    select first, upto from deck.log_sizes where run_id = t.id order by first desc, upto desc limit 1) s on true`,
})

export const makeLogs = (main: pg.Pool) => ({
  /** `log` is undefined where there is no such run. */
  async find(ref: MissionRef, run: string) {
    type Row = { run: string | null; first: number | null; size: number | null }
    const { mission, epoch, rows } = await readMission<Row>(main, { ref, name: 'log', text: logOf, values: [run] })
    const [row] = rows
    if (!row?.run || !mission) return { mission, log: undefined, epoch: '' }
    const { run: id, first, size } = row
    const topic = `missions/${mission.id}/tests/${id}/logs`
    return { mission, log: { topic, run: id, first: first ?? 0, size: size ?? 0 }, epoch }
  },

  /** The bytes from `from` up to `upto`; throws if they are deleted meanwhile. */
  async *bytes({ topic, run, first }: LogState, from: number, upto: number): AsyncGenerator<Buffer> {
    for (let at = from; at < upto;) {
      // Whole chunks, of which the first may begin before.
      const { rows } = await main.query<{ text: string | null; end: number | null }>({
        name: 'log-forward',
        text: `select string_agg(e.data ->> 'chunk', '' order by s.upto) as text, max(s.upto) as end
               from (
                 select seq, upto from deck.log_sizes
                 where run_id = $2 and first = $3 and upto > $4 and upto <= coalesce((
                   select upto from deck.log_sizes where run_id = $2 and first = $3 and upto >= $4 + $5::integer order by upto limit 1),
                   9223372036854775807)
                 order by upto
               ) s
               cross join lateral (select data from deck.events where topic = $1 and seq = s.seq limit 1) e`,
        values: [topic, run, first, at, Math.min(pageBytes, upto - at)],
      })
      const { text, end } = rows[0] ?? {}
      if (text == null || end == null) throw new Error('the log went while it was read')
      const bytes = Buffer.from(text)
      const start = end - bytes.length
      if (start > at || end <= at) throw new Error('the log went while it was read')
      yield bytes.subarray(at - start, upto - start)
      at = end
    }
  },

  /** Where the last `count` lines begin; a line feed at the very end begins no line. */
  async lastLines({ topic, run, first, size }: LogState, count: number): Promise<number> {
    let left = count
    for (let at = size; at > 0;) {
      const { rows } = await main.query<{ text: string | null }>({
        name: 'log-backward',
        text: `select string_agg(e.data ->> 'chunk', '' order by s.upto) as text
               from (
                 select seq, upto from deck.log_sizes
                 where run_id = $2 and first = $3 and upto <= $4 and upto > coalesce((
                   select upto from deck.log_sizes where run_id = $2 and first = $3 and upto <= $4 - $5::integer
                   order by upto desc limit 1), -1)
                 order by upto desc
               ) s
               cross join lateral (select data from deck.events where topic = $1 and seq = s.seq limit 1) e`,
        values: [topic, run, first, at, pageBytes],
      })
      const text = rows[0]?.text
      if (text == null) throw new Error('the log went while it was read')
      const bytes = Buffer.from(text)
      const start = at - bytes.length
      let feed = bytes.lastIndexOf(10, at === size ? -2 : -1)
      for (; feed >= 0; feed = feed === 0 ? -1 : bytes.lastIndexOf(10, feed - 1))
        if (--left === 0) return start + feed + 1
      at = start
    }
    return 0
  },
})
export type Logs = ReturnType<typeof makeLogs>
