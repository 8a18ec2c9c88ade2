// The registry of citizens. Citizens are returned as JSON text, by position, then by name.
import type pg from 'pg'
import { deny } from '../protocol/errors.ts'
import type { NewCitizen } from '../protocol/rows.ts'
import type { Audited } from './auth-store.ts'
import { fittingTexts, registry } from './bounds.ts'
import { quoted, type Transactions } from './postgres/transaction.ts'

const citizens = `
  select json_build_object('name', c.name, 'title', c.title, 'about', c.about, 'position', c.position,
    'listening', deck.listening(c.name), 'last_seen', deck.iso(greatest(i.seen, w.seen) at time zone 'utc'))::text as json
  from deck.citizens c
  left join deck.inboxes i on i.citizen = c.name
  left join deck.run_workers w on w.citizen = c.name`

/** `pool` is for reads. `audit` is called after a change is committed. */
export const makeCitizens = (
  pool: pg.Pool,
  { transaction, settle }: Pick<Transactions, 'transaction' | 'settle'>,
  audit: (line: Audited) => void,
) => ({
  /** Returns the citizens until the response is full: SQL writers may add any number. */
  async list(): Promise<string[]> {
    const { rows } = await pool.query<{ json: string }>({
      name: 'citizens',
      text: `${citizens} order by c.position, c.name collate "C"`,
    })
    return fittingTexts(
      rows.map(({ json }) => json),
      (text) => text,
    )
  },

  /** Adds or replaces a citizen. Without a position it comes last. */
  async put(name: string, given: NewCitizen, by: string): Promise<{ created: boolean; json: string }> {
    const { title, about = null } = given
    const put = await transaction(async (client) => {
      // One change at a time: the limits hold, and no two citizens are last.
      await client.query('lock table deck.citizens in share row exclusive mode')
      const { rows } = await client.query<{ others: number; bytes: number; last: number; known: boolean }>(
        `select count(*) filter (where name <> $1)::integer as others,
           coalesce(sum(octet_length(title) + coalesce(octet_length(about), 0)) filter (where name <> $1), 0)::float8 as bytes,
           coalesce(max(position) filter (where name <> $1), 0) as last,
           coalesce(bool_or(name = $1), false) as known
         from deck.citizens`,
        [name],
      )
      const { others = 0, bytes = 0, last = 0, known = false } = rows[0] ?? {}
      if (others >= registry.citizens || bytes + Buffer.byteLength(title + (about ?? '')) > registry.citizensBytes)
        throw deny('conflict', `the registry has up to ${registry.citizens} citizens, with 1 MiB of text in all`)
      const position = given.position ?? last + 1
      if (position > 2_147_483_647)
        throw deny('conflict', 'no position is left after the last citizen: give `position`')
      await client.query(
        `with put as (
           insert into deck.citizens as c (name, title, about, position) values ($1, $2, $3, $4)
           on conflict (name) do update set title = excluded.title, about = excluded.about, position = excluded.position
           returning c.*)
         insert into deck.audit (action, actor, detail) select 'citizen.put', $5, to_jsonb(put) from put`,
        [name, title, about, position, by],
      )
      return { created: !known, position, json: await settle(client, `${citizens} where c.name = ${quoted(name)}`) }
    })
    const { created, position, json } = put
    audit({ action: 'citizen.put', actor: by, detail: { name, title, about, position } })
    return { created, json }
  },

  /** Removes a citizen from the registry; its chats stay. Rejects with `not_found` if it is not registered. */
  async remove(name: string, by: string): Promise<void> {
    await transaction(async (client) => {
      const { rowCount } = await client.query(
        `with gone as (delete from deck.citizens where name = $1 returning name)
         insert into deck.audit (action, actor, detail)
         select 'citizen.delete', $2, jsonb_build_object('name', name) from gone`,
        [name, by],
      )
      if (rowCount === 0) throw deny('not_found', 'no such citizen is registered')
      await client.query('commit')
    })
    audit({ action: 'citizen.delete', actor: by, detail: { name } })
  },
})
export type Citizens = ReturnType<typeof makeCitizens>
