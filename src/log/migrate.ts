// Applies db/migrations with node-pg-migrate: plain SQL files, forward only, each in a transaction of its own.
// Instances that start at once queue on an advisory lock; a file that can't get its table locks within two seconds gives
// way to the traffic and is tried again. Old rows that break a constraint are reported, never changed.
import { readdir } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'

const root = (path: string): string => fileURLToPath(new URL(`../../db/${path}`, import.meta.url))

/** An old row that a constraint would refuse today. */
export type Violation = { tab: string; id: string; broken: string }

const lockNotAvailable = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === '55P03'

/** Whether all were applied, in their order; a later version may have applied more. */
const upToDate = async (client: pg.Client): Promise<boolean> => {
  const { rows } = await client.query<{ made: boolean }>(`select to_regclass('deck.migrations') is not null as made`)
  if (!rows[0]?.made) return false
  const applied = await client.query<{ name: string }>('select name from deck.migrations order by run_on, id')
  return (await migrationNames()).every((name, n) => applied.rows[n]?.name === name)
}

/** Brings the database of `client` (a session, not a transaction pooler's) up to date; -> old rows to report. */
export const migrate = async (client: pg.Client, log: (line: string) => void): Promise<Violation[]> => {
  const lock = 4_747_001
  await client.query(`select pg_advisory_lock(${lock})`)
  try {
    // 30 tries of up to 2 s: longer than any batch, shorter than a deploy's patience.
    await client.query(`set lock_timeout = '2s'; set search_path = public`)
    for (let attempt = 1; ; attempt++) {
      try {
        if (await upToDate(client)) break
        // Loaded where there is something to apply: most starts find nothing.
        const { runner } = await import('node-pg-migrate')
        const applied = await runner({
          dbClient: client,
          dir: root('migrations'),
          direction: 'up',
          migrationsSchema: 'deck',
          createMigrationsSchema: true,
          migrationsTable: 'migrations',
          noLock: true,
          // Its own errors print whole files; what it throws says enough.
          logger: { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} },
        })
        for (const { name } of applied) log(`migrated: ${name}`)
        break
      } catch (error) {
        await client.query('rollback')
        if (!lockNotAvailable(error) || attempt === 30) throw error
        await delay(100 + Math.random() * 400)
      }
    }
    return (await client.query<Violation>('select tab, id, broken from deck.violations()')).rows
  } finally {
    await client.query('set lock_timeout = default')
    await client.query(`select pg_advisory_unlock(${lock})`)
  }
}

/** The names of all migrations, in order, as deck.migrations has them. */
export const migrationNames = async (): Promise<string[]> =>
  (await readdir(root('migrations')))
    .filter((file) => file.endsWith('.sql'))
    .map((file) => file.slice(0, -4))
    .sort()

/** The text of db/seed.sql. */
export const seedFile = root('seed.sql')
