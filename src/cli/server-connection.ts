// Connects a command to the server. A token comes from the environment or a file, never from an argument, because every
// process can read arguments. Without a token, the session of mission-deck login is used. Without one, and if the server is on this machine, one is signed with the secret of the
// server in this folder.
import { readFile } from 'node:fs/promises'
import { Option, type Command } from 'commander'
import type { Role } from '../access/actor.ts'
import type { Deck } from '../client/index.ts'
import { deny } from '../protocol/errors.ts'
import { makeIo, Usage, withJson, type Io } from './output.ts'
import { ownSecret } from './secret.ts'

export type RemoteOptions = { json?: boolean; url: string; tokenFile?: string; as?: string }

/** The user that a command acts as. */
type Actor = { sub: string; role: Role }

const defaultUser = 'person1@scopelock.ai'
export const home = 'http://127.0.0.1:3000'

export const withServer = (command: Command, self = defaultUser): Command =>
  withJson(command)
    .addOption(new Option('--url <url>', 'URL of the server').env('DECK_URL').default(home))
    .option('--token-file <file>', 'file with the token; default: the variable DECK_TOKEN')
    .option('--as <sub>', `user ID to act as, without a token on a server of this folder (default: "${self}")`)

export const toUrl = (text: string): URL => {
  if (!URL.canParse(text)) throw new Usage('--url must be an address such as https://deck.example')
  const url = new URL(text)
  if (!/^https?:$/.test(url.protocol)) throw new Usage('--url must begin with http:// or https://')
  if (url.username || url.password || url.search)
    throw new Usage('--url must not contain a user, a password or a query; set the token in DECK_TOKEN')
  return url
}
const isLoopback = ({ hostname }: URL): boolean => /^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname)

/** Returns a function that signs tokens of 5 minutes with this folder's secret; undefined for a remote server or without a secret. */
const ownToken = async (url: URL, actor: Actor): Promise<(() => Promise<string>) | undefined> => {
  if (!isLoopback(url)) return undefined
  const secret = await ownSecret()
  if (!secret) return undefined
  const { makeTokens } = await import('../access/tokens.ts')
  const tokens = makeTokens({ secret })
  return () => tokens.sign(actor, 300)
}

/**
 * Returns a function that gets tokens for the session of mission-deck login; undefined without a session. Rejects if the session has
 * ended.
 */
const sessionToken = async ({ origin }: URL): Promise<(() => Promise<string>) | undefined> => {
  const { keptSession, postAsSession } = await import('./sign-in/kept-sessions.ts')
  const kept = await keptSession(origin)
  if (!kept) return undefined
  const request = async (): Promise<string> => {
    const response = await postAsSession(origin, '/auth/token', kept).catch(() => undefined)
    if (!response) throw deny('unavailable', `no server answers at ${origin}`)
    const { token } = (await response.json().catch(() => ({}))) as { token?: string }
    if (response.status === 401) throw deny('unauthorized', 'the session has ended: run mission-deck login')
    if (token === undefined) throw deny('unavailable', `the server answered with ${response.status}`)
    return token
  }
  let first: string | undefined = await request()
  return async () => {
    const token = first ?? (await request())
    first = undefined
    return token
  }
}

const tokenOf = async (
  io: Io,
  url: URL,
  { tokenFile, as }: RemoteOptions,
  self: Actor,
): Promise<string | (() => Promise<string>)> => {
  const given = tokenFile ? (await readFile(tokenFile, 'utf8')).trim() : process.env['DECK_TOKEN']?.trim()
  if (given && as !== undefined)
    throw new Usage('--as needs a server in this folder and no token: the token already names the user')
  if (given) return given
  const session = as === undefined ? await sessionToken(url) : undefined
  if (session) return session
  const sub = as ?? self.sub
  const own = await ownToken(url, { ...self, sub })
  if (!own)
    throw deny(
      'unauthorized',
      'a token is needed: mission-deck login, DECK_TOKEN or --token-file (mission-deck token makes one)',
    )
  io.note(`acting as ${sub}, with the secret of this folder's server`)
  return own
}

/** Ctrl-C and SIGTERM (`daemon`) abort the signal instead of the process, so that work in progress is closed. Ctrl-C's exit code is 130. */
const interruptible = (daemon: boolean): { signal: AbortSignal; forget: () => void } => {
  const stop = new AbortController()
  const interrupt = (): void => {
    process.exitCode = 130
    stop.abort()
  }
  const end = (): void => stop.abort()
  process.once('SIGINT', interrupt)
  if (daemon) process.once('SIGTERM', end)
  return { signal: stop.signal, forget: () => void process.off('SIGINT', interrupt).off('SIGTERM', end) }
}

export type Work = (parts: { deck: Deck; io: Io; signal: AbortSignal }) => Promise<void>

/**
 * Connects, works, and closes. Rejects if the server can't be reached at first; a later disconnection is waited out. `daemon`: the work ends
 * by itself once the signal is aborted, and a fault of a task does not end it.
 */
export const withDeck = async (
  options: RemoteOptions,
  work: Work,
  self: Actor = { sub: defaultUser, role: 'user' },
  daemon = false,
): Promise<void> => {
  const io = makeIo(options)
  const url = toUrl(options.url)
  const token = await tokenOf(io, url, options, self)
  if (url.protocol === 'http:' && !isLoopback(url)) io.note('the token is sent to another machine without TLS')
  const { connect } = await import('../client/index.ts')
  const deck = connect({ url: url.href.replace(/\/$/, ''), token })
  const { signal, forget } = interruptible(daemon)
  let wasOpen = false
  const failed = new Promise<never>((_resolve, reject) => {
    deck.on('state', (state, error) => {
      if (state === 'open') wasOpen = true
      else if (state === 'waiting' && wasOpen) io.note('the connection was lost; reconnecting')
      else if (state === 'waiting') reject(deny('unavailable', `no server answers at ${url.origin}`))
      else if (state === 'closed' && error) reject(error)
    })
    deck.on('error', daemon ? (error) => io.note(error instanceof Error ? error.message : String(error)) : reject)
  })
  const aborted = new Promise<void>((resolve) => daemon || signal.addEventListener('abort', () => resolve()))
  try {
    await Promise.race([work({ deck, io, signal }), failed, aborted])
    if (signal.aborted && io.live) io.write('\n')
  } catch (error) {
    if (!signal.aborted) throw error
  } finally {
    forget()
    deck.close()
  }
}
