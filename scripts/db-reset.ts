// `npm run db:reset`: deletes the embedded development database, so that the next start makes a new one with the seed's rows.
// It refuses while a server uses the database, or if DATABASE_URL is set. The generated secret stays, so tokens remain valid.
import { rename, rm } from 'node:fs/promises'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readConfig } from '../src/config/index.ts'
import { startEmbedded } from '../src/database/embedded/index.ts'
import { readPostmaster } from '../src/database/embedded/postmaster.ts'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Returns the message to print. Throws an error with the reason if nothing was deleted. */
const reset = async (): Promise<string> => {
  const config = readConfig(process.env)
  if (config.databaseUrl)
    throw new Error(
      'db:reset only deletes the embedded database, and DATABASE_URL is set: unset it (see .env too), or reset that database with psql.',
    )
  const dir = join(resolve(root, config.dataDir), 'postgres')
  const shown = relative(process.cwd(), dir)
  // After a kill -9 of the server, Postgres may still run: starting and stopping it here ends it.
  if (await readPostmaster(dir)) await (await startEmbedded({ dir })).stop()
  const left = await readPostmaster(dir)
  if (left)
    throw new Error(
      `A server uses the database in ${shown} (Postgres is process ${left.pid}): stop npm run dev or npm start first.`,
    )
  // The rename is atomic: a concurrent start finds the whole folder or none.
  const gone = `${dir}.reset-${process.pid}`
  try {
    await rename(dir, gone)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    return `There is no database in ${shown}: the next start creates one.`
  }
  await rm(gone, { recursive: true, force: true })
  await rm(join(dirname(dir), 'url'), { force: true })
  return `Deleted the database in ${shown}: the next start creates a new one.`
}

try {
  process.stdout.write(`${await reset()}\n`)
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`)
  process.exitCode = 1
}
