// How far each sub has read a chat: the greatest seq that it named, up to the head. Many marks share a statement, and of
// several of one sub in one chat the greatest is written.
import type pg from 'pg'
import { makeBatched } from '../postgres/batcher.ts'
import { headOf } from '../postgres/columns.ts'

export type Mark = { mission: string; citizen: string; sub: string; seq: number }
/** Where the sub stands now; `news`: whether it was less far before. */
export type Marked = { seq: number; news: boolean }

const nameOf = ({ mission, citizen, sub }: Mark): string => `${mission} ${citizen} ${sub}`

/** `patience`: ms until a mark that is not answered ends as `unavailable`. */
export const makeMarks = (writes: pg.Pool, patience: number) => {
  const mark = makeBatched(
    async (asked: Mark[]): Promise<(Marked | undefined)[]> => {
      const greatest = new Map<string, Mark>()
      for (const mark of asked) if ((greatest.get(nameOf(mark))?.seq ?? -1) < mark.seq) greatest.set(nameOf(mark), mark)
      const marks = [...greatest.values()]
      const { rows } = await writes.query<Marked & { n: number }>({
        name: 'marks',
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
          -- (One that another instance overtook meanwhile is not saved: then there is more than this snapshot knows.)
          select g.n, greatest(s.seq, r.seq, g.upto) as seq, s.seq is not null as news
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
      const found = new Map(rows.map(({ n, ...marked }) => [marks[n - 1], marked]))
      return asked.map((mark) => {
        const written = greatest.get(nameOf(mark))
        const marked = found.get(written)
        return marked && { ...marked, news: marked.news && written === mark }
      })
    },
    { max: 200, patience },
  )
  /** undefined if the mission is gone. Safe to be repeated, as a batch is after a broken connection. */
  return { mark }
}
export type Marks = ReturnType<typeof makeMarks>
