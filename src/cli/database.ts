// The database of a command: the session-level connection that the environment names.
// Some commands fall back to the embedded database of a server that runs in this folder.
// Only the database settings are read, so no secret is needed.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type pg from 'pg'
import { readConfig, type Config } from '../config/index.ts'
import { openDatabase, openSession } from '../database/postgres/pools.ts'
import { deny } from '../protocol/errors.ts'

const names = ['DATABASE_URL', 'DATABASE_DIRECT_URL', 'DATABASE_POOL_MAX', 'DATA_DIR'] as const

/** Returns the configuration from the settings that locate the database. Throws if one is invalid. */
export const databaseConfig = (): Config => {
  const given = names.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]]))
  return readConfig(Object.fromEntries(given) as NodeJS.ProcessEnv)
}

/** Returns the URL that the embedded database of this folder had at its last start, or '' if it has never run. */
export const embeddedUrl = async (dataDir: string): Promise<string> =>
  (await readFile(join(dataDir, 'url'), 'utf8').catch(() => '')).trim()

/** Returns the session-level connection. Rejects if DATABASE_URL is missing and no embedded database may replace it. */
export const direct = async (orEmbedded = false): Promise<pg.ClientConfig> => {
  const { databaseUrl, databaseDirectUrl, dataDir, poolMax } = databaseConfig()
  const url = databaseUrl || (orEmbedded ? await embeddedUrl(dataDir) : '')
  if (!url) throw deny('bad_request', 'DATABASE_URL is needed.')
  const database = openDatabase({ url, directUrl: databaseDirectUrl || url, poolMax }, () => {})
  await database.close()
  return database.direct()
}

export const withClient = async <T>(config: pg.ClientConfig, work: (client: pg.Client) => Promise<T>): Promise<T> => {
  const client = await openSession(config)
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}
