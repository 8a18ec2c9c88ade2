// Matches and ranks texts that are not columns (code, results) in Postgres.
import type pg from 'pg'
import type { Turn } from '../postgres/mutex.ts'
import { fitsWords, type Words } from './tsquery.ts'

/** UTF-16 code units of texts per statement; a longer text is sent alone. */
const most = 1024 * 1024

/** `main` is for reads; `inTurn` runs each statement. Returns each text's rank, or null if it does not match. */
export const makeMatch =
  (main: pg.Pool) =>
  async ({ all, none, rank }: Words, texts: string[], inTurn: Turn = (work) => work()): Promise<(number | null)[]> => {
    const ranks: (number | null)[] = texts.map(() => null)
    for (let from = 0; from < texts.length;) {
      const part: string[] = []
      for (let size = 0; from + part.length < texts.length && (part.length === 0 || size < most);) {
        const text = texts[from + part.length] ?? ''
        part.push(text)
        size += text.length
      }
      const { rows } = await inTurn(() =>
        main.query<{ n: number; rank: number }>({
          name: 'match',
          text: `select t.n, ts_rank_cd(deck.words(t.text), $4::tsquery, 1) as rank
                 from unnest($1::text[]) with ordinality t (text, n)
                 cross join lateral (select deck.plain(t.text) as plain offset 0) p
                 where ${fitsWords('p.plain', '$2', '$3')}`,
          values: [part, all, none, rank],
        }),
      )
      for (const { n, rank } of rows) ranks[from + n - 1] = rank
      from += part.length
    }
    return ranks
  }
