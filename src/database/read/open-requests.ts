// The open requests of all missions that the caller may see.
import type pg from 'pg'
import type { Visible } from '../../access/policy.ts'
import { answerBytes, fittingTexts } from '../bounds.ts'
import { visibleColumns } from '../postgres/columns.ts'
import { utc } from '../postgres/transaction.ts'

/** Where a page ended: the last request's expiry (RFC 3339) and ID. */
export type OpenCursor = { at: string; id: string }

const some = (of: string): string => `
  select r.id, r.expires_at from deck.requests r
  where ${of} and r.state = 'open' and ($4::timestamptz is null or (r.expires_at, r.id) > (${utc('$4')}, $5::uuid))
  order by r.expires_at, r.id limit $6`

/**
 * A page of open requests, the first to expire first. It ends before the first request that does not fit into the response.
 *
 * $1, $2, $3 which missions the caller may see: all; those of this sub as assignee or member; those with these IDs or numbers
 * $4, $5 only requests after the one with this expiry (RFC 3339) and ID, or null
 * $6 maximum number of requests
 */
// Each part reads by its own index: all open requests by expiry, or the open requests of each visible mission.
const page = `
  select y.id, y.expires_at, y.json from (
    select x.*, sum(octet_length(x.json) + 1) over (order by x.expires_at, x.id rows between unbounded preceding and 1 preceding) as ahead
    from (
      select f.id, f.expires_at, deck.request_json(q)::text as json
      from (
        (${some('$1::boolean')})
        union all
        (select s.id, s.expires_at
         from missions m cross join lateral (${some('r.mission_id = m.id')}) s
         where not $1::boolean and ${visibleColumns('m', '$2', '$3')}
         order by s.expires_at, s.id limit $6)
      ) f join deck.requests q on q.id = f.id
      order by f.expires_at, f.id limit $6
    ) x
  ) y where y.ahead is null or y.ahead < ${answerBytes} order by y.expires_at, y.id`

/** Returns up to `limit` requests, as many as fit into a response, at least one. */
export const readOpenRequests = async (
  pool: pg.Pool,
  { all, sub, refs }: Visible,
  { after, limit }: { after?: OpenCursor; limit: number },
): Promise<{ rows: string[]; next: OpenCursor | null }> => {
  const { rows } = await pool.query<{ id: string; expires_at: string; json: string }>({
    name: 'requests-open',
    text: page,
    values: [all, sub, refs, after?.at, after?.id, limit + 1],
  })
  const shown = fittingTexts(rows.slice(0, limit), ({ json }) => json)
  const last = shown.at(-1)
  return {
    rows: shown.map(({ json }) => json),
    next: last && shown.length < rows.length ? { at: last.expires_at, id: last.id } : null,
  }
}
