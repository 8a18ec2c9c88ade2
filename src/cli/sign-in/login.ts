// mission-deck login, logout: a session of the command line. The browser, which is signed in, confirms on a page of the server, and is
// redirected to a port of this machine with a code. Only this process has the verifier that the code needs.
import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Option, type Command } from 'commander'
import { deny } from '../../protocol/errors.ts'
import { makeIo, withJson, type Io } from '../output.ts'
import { home, toUrl } from '../server-connection.ts'
import { keepSession, keptSession, postAsSession } from './kept-sessions.ts'

type Options = { json?: boolean; url: string; browser: boolean }

const random = (): string => randomBytes(32).toString('base64url')

/** Opens a page in the browser of this machine, if there is one. */
const open = (address: string): void => {
  const [command, ...before] =
    process.platform === 'darwin' ? ['open'] : process.platform === 'win32' ? ['explorer'] : ['xdg-open']
  const child = spawn(command ?? '', [...before, address], { stdio: 'ignore', detached: true })
  child.on('error', () => {})
  child.unref()
}

/** Waits on a port of loopback for the redirect with the code. `ready` gets the port. Rejects after ten minutes. */
const receiveCode = (state: string, ready: (port: number) => void): Promise<string> =>
  new Promise((resolve, reject) => {
    const server = createServer((request, response) => {
      const { searchParams, pathname } = new URL(request.url ?? '/', 'http://127.0.0.1')
      const code = searchParams.get('code')
      const right = pathname === '/' && searchParams.get('state') === state && code !== null
      response
        .writeHead(right ? 200 : 404, { 'content-type': 'text/plain; charset=utf-8', connection: 'close' })
        .end(right ? 'The command line is signed in. You can close this page.\n' : 'Not found\n')
      if (!right) return
      clearTimeout(timer)
      server.close()
      resolve(code)
    })
    const timer = setTimeout(() => {
      server.close()
      server.closeAllConnections()
      reject(deny('unavailable', 'nobody confirmed within ten minutes: run mission-deck login again'))
    }, 600_000)
    server.on('error', reject)
    server.listen(0, '127.0.0.1', () => ready((server.address() as AddressInfo).port))
  })

/** fetch whose failure to connect is one sentence. */
const reach = async (origin: string, request: Promise<Response>): Promise<Response> => {
  try {
    return await request
  } catch {
    throw deny('unavailable', `no server answers at ${origin}`)
  }
}

const signIn = async (io: Io, origin: string, browser: boolean): Promise<string> => {
  await reach(origin, fetch(`${origin}/auth`))
  const [state, verifier] = [random(), random()]
  const challenge = createHash('sha256').update(verifier).digest('base64url')
  const code = await receiveCode(state, (port) => {
    const address = `${origin}/auth/cli?${new URLSearchParams({ port: String(port), state, challenge }).toString()}`
    io.note(`to sign in, confirm on this page in a browser of this machine:\n${address}`)
    if (browser) open(address)
  })
  const response = await reach(
    origin,
    fetch(`${origin}/auth/cli/session`, {
      method: 'POST',
      headers: { origin, 'content-type': 'application/json' },
      body: JSON.stringify({ code, verifier }),
    }),
  )
  const { session, sub, detail } = (await response.json()) as { session?: string; sub?: string; detail?: string }
  if (session === undefined || sub === undefined) throw deny('unauthorized', detail ?? 'the server refused the code')
  const former = await keptSession(origin)
  await keepSession(origin, { session, sub })
  // A session that nothing uses any more should not stay open.
  if (former) await postAsSession(origin, '/auth/logout', former).catch(() => {})
  return sub
}

const withUrl = (command: Command): Command =>
  withJson(command).addOption(new Option('--url <url>', 'URL of the server').env('DECK_URL').default(home))

export const loginCommands = (program: Command): void => {
  withUrl(program.command('login'))
    .description('sign this command line in, by a page of the server in the browser')
    .option('--no-browser', 'only print the address of the page')
    .action(async ({ json, url, browser }: Options) => {
      const io = makeIo(json === undefined ? {} : { json })
      const { origin } = toUrl(url)
      const sub = await signIn(io, origin, browser)
      io.print(`signed in to ${origin} as ${sub}`, { url: origin, sub })
    })

  withUrl(program.command('logout'))
    .description('end the session of this command line on a server')
    .action(async ({ json, url }: Options) => {
      const io = makeIo(json === undefined ? {} : { json })
      const { origin } = toUrl(url)
      const kept = await keptSession(origin)
      if (kept) {
        const { ok, status } = await reach(origin, postAsSession(origin, '/auth/logout', kept))
        if (!ok) throw deny('unavailable', `the server answered with ${status}: the session is kept`)
        await keepSession(origin, undefined)
      }
      io.print(kept ? `signed out of ${origin}` : `not signed in to ${origin}`, {
        url: origin,
        changed: kept !== undefined,
      })
    })
}
