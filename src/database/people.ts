// Lists for admins: people who have signed in, and the audit log. Each is a page that fits into a response.
import type pg from 'pg'
import type { AuditEntry, SeenPerson } from '../protocol/people.ts'
import { fitting } from './bounds.ts'
import { sessionDays } from './sessions.ts'

export const makePeople = (pool: pg.Pool) => ({
  /** People by sub, after `after`. */
  async list(limit: number, after: string): Promise<{ people: SeenPerson[]; next: string | null }> {
    const { rows } = await pool.query<SeenPerson>(
      `select p.sub, p.name, p.role, deck.iso(p.last_seen at time zone 'utc') as last_seen,
         (select count(*)::integer from deck.sessions s
          where s.sub = p.sub and s.last_used > now() - interval '${sessionDays} days') as sessions
       from deck.people p where p.sub collate "C" > $1 order by p.sub collate "C" limit $2`,
      [after, limit + 1],
    )
    const people = fitting(rows.slice(0, limit), 'first')
    return { people, next: people.length < rows.length ? (people.at(-1)?.sub ?? null) : null }
  },

  /** The audit log, the newest entry first, before `before`. */
  async audit(limit: number, before: number): Promise<{ entries: AuditEntry[]; next: string | null }> {
    const { rows } = await pool.query<Omit<AuditEntry, 'detail'> & { detail: string }>(
      `select id, deck.iso(at) as at, action, actor, mission_id, detail, db_user
       from deck.audit where id < $1 order by deck.audit.id desc limit $2`,
      [before, limit + 1],
    )
    const kept = fitting(rows.slice(0, limit), 'first')
    const entries = kept.map((row) => ({ ...row, detail: JSON.parse(row.detail) as AuditEntry['detail'] }))
    return { entries, next: entries.length < rows.length ? String(entries.at(-1)?.id ?? 0) : null }
  },
})
export type People = ReturnType<typeof makePeople>
