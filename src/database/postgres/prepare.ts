// Prepares a database for the server: checks version, encoding and that it is the primary, and migrates it. With `seed`, adds the example
// missions to an empty database.
import { readFile } from 'node:fs/promises'
import type pg from 'pg'
import { openSession } from './pools.ts'
import { migrate, seedFile } from './migrate.ts'
import { WrongServer } from './errors.ts'

export const prepareDatabase = async (
  direct: () => Promise<pg.ClientConfig>,
  { seed, log }: { seed: boolean; log: (line: string) => void },
): Promise<void> => {
  const client = await openSession(await direct())
  try {
    const { rows } = await client.query<{ encoding: string; standby: boolean; version: number }>(
      `select current_setting('server_encoding') as encoding, pg_is_in_recovery() as standby,
              current_setting('server_version_num')::int as version`,
    )
    const [server] = rows
    if (!server || server.version < 140_000) throw new Error('Mission Deck needs Postgres 14 or later.')
    if (server.encoding !== 'UTF8') throw new Error(`The database's encoding is ${server.encoding}; it has to be UTF8.`)
    if (server.standby)
      throw new WrongServer('This Postgres is a standby; Mission Deck writes, so it needs the primary.')
    for (const { tab, id, broken } of await migrate(client, log))
      log(`an old row breaks a constraint and stays as it is: ${tab} ${id} (${broken})`)
    if (seed) await client.query(`begin; select pg_advisory_xact_lock(4747002)`)
    if (seed && (await client.query('select from missions limit 1')).rowCount === 0) {
      await client.query(await readFile(seedFile, 'utf8'))
      log('the example missions 47 and 48 are there')
    }
    if (seed) await client.query('commit')
  } finally {
    await client.end()
  }
}
