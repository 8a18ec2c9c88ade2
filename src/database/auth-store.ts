// What authentication stores in the database: tickets and revocations.
import { createHash, randomBytes } from 'node:crypto'
import type pg from 'pg'
import { toActor, toClaims, type Actor } from '../access/actor.ts'
import { deny } from '../protocol/errors.ts'

/** An action for the audit log; `actor` is the sub of the token. */
export type Audited = {
  action:
    | 'chat.clear'
    | 'mission.delete'
    | 'message.as'
    | 'dod.override'
    | 'citizen.put'
    | 'citizen.delete'
    | 'member.put'
    | 'member.delete'
    | 'message.redact'
    | 'log.redact'
    | 'invite.add'
    | 'session.start'
    | 'session.end'
    | 'key.add'
    | 'key.delete'
  actor: string
  mission?: string
  detail?: Record<string, unknown>
}

const digest = (ticket: string): Buffer => createHash('sha256').update(ticket).digest()

/** `ticketLife`: seconds. */
export const makeAccess = (pool: pg.Pool, ticketLife: number) => ({
  /** Issues a ticket: any instance accepts it once for the actor, within `ticketLife` seconds. */
  async issueTicket(actor: Actor): Promise<{ ticket: string; expires_in: number }> {
    const ticket = `deck_ticket_${randomBytes(24).toString('base64url')}`
    await pool.query({
      name: 'issue ticket',
      text: `
        with old as (delete from deck.tickets where digest = any (array(
          select digest from deck.tickets where expires_at < now() limit 100 for update skip locked)))
        insert into deck.tickets (digest, actor, expires_at) values ($1, $2, now() + make_interval(secs => $3))`,
      values: [digest(ticket), JSON.stringify(toClaims(actor)), ticketLife],
    })
    return { ticket, expires_in: ticketLife }
  },

  /** Uses up a ticket and returns its actor. Rejects with `unauthorized` if it is unknown, used or expired. */
  async takeTicket(ticket: string): Promise<Actor> {
    const { rows } = await pool.query<{ actor: string; valid: boolean }>({
      name: 'take ticket',
      text: 'delete from deck.tickets where digest = $1 returning actor, expires_at > now() as valid',
      values: [digest(ticket)],
    })
    if (!rows[0]?.valid) throw deny('unauthorized', 'the ticket is unknown, used or expired')
    return toActor(JSON.parse(rows[0].actor))
  },

  /** Returns a text that changes whenever the list of revocations changes. */
  async revocationsStamp(): Promise<string> {
    const { rows } = await pool.query<{ stamp: string }>({
      name: 'revocations stamp',
      text: `select count(*) || ' ' || coalesce(max(id), 0) as stamp from deck.revocations`,
    })
    return rows[0]?.stamp ?? ''
  },
  /** Returns whether a name is revoked, now and on every instance. */
  async isRevoked(name: string): Promise<boolean> {
    const { rowCount } = await pool.query({
      name: 'is revoked',
      text: 'select from deck.revocations where name = $1',
      values: [name],
    })
    return rowCount === 1
  },
  async revoked(): Promise<string[]> {
    const { rows } = await pool.query<{ name: string }>({ name: 'revoked', text: 'select name from deck.revocations' })
    return rows.map(({ name }) => name)
  },
})
export type Access = ReturnType<typeof makeAccess>
