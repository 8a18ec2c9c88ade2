// Reads run logs: any part of a log by its byte positions, and its last lines from the end. Cost depends only on the part that is read, and
// one page is in memory at a time. A reader gets the log as of its first statement, even if the log grows or is replaced meanwhile.
import type pg from 'pg'
import type { MissionRef } from '../../protocol/topics.ts'
import { epochColumn, readMission, selectMission } from './read-mission.ts'

/** Maximum bytes of a page's chunks, except one chunk. */
const pageBytes = 256 * 1024

/** The state of a log at one moment. `first`: the seq of its first event. */
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
  /** Returns the log's state; `log` is undefined if the run does not exist. */
  async find(ref: MissionRef, run: string) {
    type Row = { run: string | null; first: number | null; size: number | null }
    const { mission, epoch, rows } = await readMission<Row>(main, { ref, name: 'log', text: logOf, values: [run] })
    const [row] = rows
    if (!row?.run || !mission) return { mission, log: undefined, epoch: '' }
    const { run: id, first, size } = row
    const topic = `missions/${mission.id}/tests/${id}/logs`
    return { mission, log: { topic, run: id, first: first ?? 0, size: size ?? 0 }, epoch }
  },

  /** Yields the bytes from `from` to `upto`. Throws if they are deleted meanwhile. */
  async *bytes({ topic, run, first }: LogState, from: number, upto: number): AsyncGenerator<Buffer> {
    for (let at = from; at < upto;) {
      // Reads whole chunks; the first one may begin before `at`.
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
      if (text == null || end == null) throw new Error('the log was deleted while it was read')
      const bytes = Buffer.from(text)
      const start = end - bytes.length
      if (start > at || end <= at) throw new Error('the log was deleted while it was read')
      yield bytes.subarray(at - start, upto - start)
      at = end
    }
  },

  /** Returns the byte position at which the last `count` lines begin. A line feed at the very end begins no line. */
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
      if (text == null) throw new Error('the log was deleted while it was read')
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
