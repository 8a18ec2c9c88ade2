// The process: configuration, embedded database, output, signals.
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import closeWithGrace from 'close-with-grace'
import type { App } from './app/index.ts'
import { readConfig, type Config } from './config/index.ts'
import type { PageState } from './http/routes/web-app.ts'
import { startEmbedded, type Embedded } from './database/embedded/index.ts'

/** `--json`: prints one line of JSON instead of the greeting. Log lines are JSON then, too. */
const json = process.argv.includes('--json')

/** Prints what a start with an embedded database does, as scripts/start.js does before: seconds since the process began, and words. */
const step = (text: string): void => {
  if (!json) process.stdout.write(`${(performance.now() / 1000).toFixed(1).padStart(5)} s  ${text}\n`)
}

let pageState: PageState = 'found'
/** Sets what the plain page says while there is no other: `npm start` builds the page beside the server. */
export const setPageState = (state: PageState): void => {
  pageState = state
}

/** Returns the secret in the data folder, generated at the first start. If two processes start at once, both use the first secret. */
const keptSecret = async (folder: string): Promise<string> => {
  const file = join(folder, 'jwt-secret')
  await mkdir(folder, { recursive: true })
  await writeFile(file, randomBytes(48).toString('base64url'), { mode: 0o600, flag: 'wx' }).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error
    },
  )
  return (await readFile(file, 'utf8')).trim()
}

const greet = async (app: App, address: string, folder: string): Promise<void> => {
  const day = 24 * 60 * 60
  const admin = await app.tokens.sign({ sub: 'admin', role: 'admin' }, day)
  const user = await app.tokens.sign({ sub: 'person1@scopelock.ai', role: 'user' }, day)
  // Browsers do not send a fragment, so the token gets into no log.
  const link = `${address}/#token=${user}`
  if (json) return void process.stdout.write(`${JSON.stringify({ url: address, tokens: { admin, user }, link })}\n`)
  const socket = address.replace(/^http/, 'ws')
  process.stdout.write(`Mission Deck is at ${address}

  open this link in a browser to be signed in as the user below for a day:
    ${link}

  or this one, to be the admin:
    ${address}/#token=${admin}

  tokens for a day, of an admin and of the user of missions 47 and 48:
    ADMIN=${admin}
    TOKEN=${user}

  to try them:
    curl -H "Authorization: Bearer $TOKEN" ${address}/api/missions
    npx wscat -s deck.v1 -H "Authorization: Bearer $TOKEN" -c "${socket}/api/missions/47/chat/rafael/ws?after=0"
    psql "$(cat ${join(folder, 'url')})"

`)
}

let embedded: Embedded | undefined
/** Starts the embedded database. */
const embed = async (folder: string): Promise<string> => {
  const dir = join(folder, 'postgres')
  step(existsSync(dir) ? 'opening the database' : `making a database in ${folder} (once)`)
  embedded = await startEmbedded({ dir })
  step('applying migrations and opening the port')
  return embedded.url
}

let app: App | undefined

// SIGTERM and SIGINT: exit 0 within 10 s, even if a part hangs. An embedded Postgres that does not stop in time keeps running: the next
// start uses it.
const stop = async (): Promise<void> => {
  const begun = performance.now()
  await app?.close()
  await Promise.race([embedded?.stop(), delay(Math.max(500, 9000 - (performance.now() - begun)))])
}

const run = async (): Promise<void> => {
  let config: Config = readConfig(process.env)
  const folder = resolve(config.dataDir)
  // A second signal exits at once.
  closeWithGrace({ delay: 9500, logger: false }, async ({ err }) => {
    if (err) process.stderr.write(`${err.stack ?? err.message}\n`)
    await stop()
  })
  if (!config.jwtSecret && !config.jwksUrl) config = { ...config, jwtSecret: await keptSecret(folder) }
  const seen = process.stdout.isTTY && !config.production && !json
  // The modules load while Postgres starts.
  const [url, { buildApp }, pretty] = await Promise.all([
    config.databaseUrl || embed(folder),
    import('./app/index.ts'),
    seen ? import('./http/observability/pretty-log.ts') : undefined,
  ])
  if (embedded) config = { ...config, databaseUrl: url, databaseDirectUrl: url }
  app = await buildApp(config, {
    seed: embedded !== undefined,
    pageState: () => pageState,
    ...(pretty ? { logTo: await pretty.makePretty() } : {}),
  })
  const { log } = app.http
  // At a first try the greeting should be the first output, so info lines of the start are not logged.
  if (embedded && config.logLevel === 'info') log.level = 'warn'
  const address = await app.start()
  if (embedded) step('ready')
  if (embedded) await greet(app, address, config.dataDir)
  else process.stdout.write(json ? `${JSON.stringify({ url: address })}\n` : `Mission Deck is at ${address}\n`)
  log.level = config.logLevel
}

run().catch(async (error: Error) => {
  const detail = `Mission Deck did not start: ${error.message}`
  process.stderr.write(`${json ? JSON.stringify({ code: 'unavailable', detail }) : detail}\n`)
  process.exitCode = 1
  await stop()
  process.exit()
})
