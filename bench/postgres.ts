// The Postgres that all targets share: the embedded one with its default durability, in a separate folder.
import { fileURLToPath } from 'node:url'
import { startEmbedded } from '../src/database/embedded/index.ts'
import { postgresIn, type Postgres } from './targets.ts'

const dir = fileURLToPath(new URL('../../../.data/bench/postgres', import.meta.url))

/** Runs `work` with the embedded Postgres. TEST_DATABASE_URL is not used: a bench must know the process whose CPU it counts. */
export const withPostgres = async (work: (postgres: Postgres) => Promise<void>): Promise<void> => {
  const embedded = await startEmbedded({ dir, settings: { max_connections: '100' } })
  try {
    await work(postgresIn(dir, embedded.adminUrl))
  } finally {
    await embedded.stop()
  }
}
