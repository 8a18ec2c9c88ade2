// The statements of database/search/mission-rows, about one mission (database/read/read-mission).
import { epochColumn, selectMission } from '../read/read-mission.ts'
import { fitsWords, mayFit } from './tsquery.ts'

/** Runs that a statement reads. */
export const runs = 200
/** Maximum bytes of their texts, except the last run. */
const runBytes = 1024 * 1024

/**
 * Runs, newest first. `fits`: whether a run may be a hit; if not, its texts are ''. `found` counts the runs without the limit of bytes.
 *
 * $1 mission ID
 * $2 null
 * $3, $4 only runs older than the run with this time and seq, or null
 * $5, $6 timestamps: since and until, or null
 * $7, $8 text[], $9, $10: each, any, odd and cased of Letters, or null
 */
export const findRuns = selectMission({
  once: epochColumn,
  columns: 's.*',
  joins: `
  left join lateral (
    select v.*, sum(octet_length(v.summary) + octet_length(v.results))
      over (order by v.created_at desc, v.seq desc rows between unbounded preceding and 1 preceding) as ahead
    from (
      select u.id, u.seq, u.created_at, u.status, (count(*) over ())::integer as found, k.fits,
        case when k.fits then u.summary else '' end as summary, case when k.fits then u.results else '' end as results
      from (
        select t.id, t.seq, t.created_at, t.status, coalesce(t.summary::text, '') as summary, coalesce(t.results::text, '') as results
        from test_runs t
        where t.mission_id = m.id and ($3::timestamp is null or (t.created_at, t.seq) < ($3, $4::bigint))
          and t.created_at <= coalesce($3, 'infinity') and t.created_at >= coalesce($5::timestamp, '-infinity')
          and t.created_at < coalesce($6::timestamp, 'infinity')
        order by t.created_at desc, t.seq desc limit ${runs} offset 0
      ) u
      -- Only whether the run may have such a text: the caller checks its JSON form.
      cross join lateral (
        select ${mayFit('k.text', '$7', '$8', '$9', '$10')} as fits
        from (select u.status || ' ' || u.summary || u.results as text offset 0) k offset 0
      ) k
    ) v
  ) s on s.ahead is null or s.ahead < ${runBytes}
  order by s.created_at desc, s.seq desc`,
})

/**
 * The items that are hits, each at the time of its last change.
 *
 * $1 mission ID
 * $2 null
 * $3, $4 text[]: all and none of Words
 * $5 tsquery as text
 */
export const findItems = selectMission({
  once: epochColumn,
  columns: 'i.*',
  joins: `
  left join lateral (
    select d.id, d.seq, coalesce(e.at, m.created_at) as at, ts_rank_cd(deck.words(d.text), $5::tsquery, 1) as rank
    from dod_items d
    cross join lateral (select deck.plain(d.text) as plain offset 0) p
    left join deck.events e on e.topic = 'missions/' || m.id || '/dod' and e.seq = d.seq
    where d.mission_id = m.id and ${fitsWords('p.plain', '$3', '$4')}
  ) i on true`,
})
