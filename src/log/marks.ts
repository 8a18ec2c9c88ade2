// How far each sub has read a chat: the greatest seq that it named, up to the head. One statement in flight; what comes
// meanwhile goes together with the next.
import type pg from 'pg'
import { noMission } from '../protocol/errors.ts'
import { headOf } from './store.ts'

export type Mark = { mission: string; citizen: string; sub: string; seq: number }
/** Where the sub stands now; `news`: whether it was less far before. */
export type Marked = { seq: number; news: boolean }

type Waiting = Mark & { waiters: PromiseWithResolvers<Marked>[] }

const batch = 200

export const makeMarks = (main: pg.Pool) => {
  // By chat and sub: of several marks of one the greatest is written.
  const waiting = new Map<string, Waiting>()
  let running = false

  const write = async (marks: Waiting[]): Promise<void> => {
    try {
      const { rows } = await main.query<Marked & { n: number }>({
        name: 'marks',
        // A row that is as far already is not written again; it is told as this statement found it.
        text: `
          with given as materialized (
            select g.*, least(g.seq, ${headOf("'missions/' || g.mission || '/chat/' || g.citizen", 'g.mission', 'g.citizen')}) as upto
            from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[]) with ordinality as g (mission, citizen, sub, seq, n)
            where exists (select from missions where id = g.mission)
          ), saved as (
            insert into deck.reads as r (mission_id, citizen, sub, seq)
            select mission, citizen, sub, upto from given order by mission, citizen, sub
            on conflict (mission_id, citizen, sub) do update set seq = excluded.seq where excluded.seq > r.seq
            returning *
          )
          select g.n, coalesce(s.seq, r.seq, g.upto) as seq, s.seq is not null as news
          from given g
          left join saved s on s.mission_id = g.mission and s.citizen = g.citizen and s.sub = g.sub
          left join deck.reads r on r.mission_id = g.mission and r.citizen = g.citizen and r.sub = g.sub`,
        values: [
          marks.map(({ mission }) => mission),
          marks.map(({ citizen }) => citizen),
          marks.map(({ sub }) => sub),
          marks.map(({ seq }) => seq),
        ],
      })
      for (const { n, seq, news } of rows)
        marks[n - 1]?.waiters.forEach(({ resolve }, i) => resolve({ seq, news: news && i === 0 }))
      // What is left is of missions that are gone.
      for (const { waiters } of marks) for (const { reject } of waiters) reject(noMission())
    } catch (error) {
      for (const { waiters } of marks) for (const { reject } of waiters) reject(error)
    }
  }

  const pump = async (): Promise<void> => {
    if (running) return
    running = true
    while (waiting.size > 0) {
      const marks = [...waiting.values()].slice(0, batch)
      for (const mark of marks) waiting.delete(nameOf(mark))
      await write(marks)
    }
    running = false
  }

  return {
    mark(mark: Mark): Promise<Marked> {
      const waiter = withResolvers<Marked>()
      const name = nameOf(mark)
      const same = waiting.get(name)
      if (same) {
        same.seq = Math.max(same.seq, mark.seq)
        same.waiters.push(waiter)
      } else waiting.set(name, { ...mark, waiters: [waiter] })
      queueMicrotask(() => void pump())
      return waiter.promise
    },
  }
}
export type Marks = ReturnType<typeof makeMarks>

const nameOf = ({ mission, citizen, sub }: Mark): string => `${mission} ${citizen} ${sub}`

type PromiseWithResolvers<T> = { promise: Promise<T>; resolve: (value: T) => void; reject: (error: unknown) => void }
const withResolvers = <T>(): PromiseWithResolvers<T> => {
  let resolve: (value: T) => void = () => {}
  let reject: (error: unknown) => void = () => {}
  const promise = new Promise<T>((take, refuse) => ((resolve = take), (reject = refuse)))
  return { promise, resolve, reject }
}
