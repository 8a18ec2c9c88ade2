// Read markers: how far each user (sub) has read a chat. A marker is the greatest seq that the user's sockets sent, but at most the chat's
// latest seq. Concurrent marks share a statement; if it has several of one user and chat, the greatest is written.
import type pg from 'pg'
import { makeBatched } from '../postgres/batcher.ts'
import { headOf } from '../postgres/columns.ts'

export type Mark = { mission: string; citizen: string; sub: string; seq: number }
/** The user's marker now; `news`: whether this mark has advanced it. */
export type Marked = { seq: number; news: boolean }

const nameOf = ({ mission, citizen, sub }: Mark): string => `${mission} ${citizen} ${sub}`

/** `patience`: ms until a mark rejects with `unavailable`. */
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
          -- (If another instance has saved a greater mark in the meantime, this one is not saved, and this snapshot does not see the other.)
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
  /** Resolves with undefined if the mission does not exist. Idempotent, because a batch is repeated after a broken connection. */
  return { mark }
}
export type Marks = ReturnType<typeof makeMarks>
