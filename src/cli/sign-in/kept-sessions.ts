// The command line's sessions, by server: a file in the user's configuration folder that only its owner can read.
import { chmod, mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'

export type KeptSession = { session: string; sub: string }

const file = (): string => {
  const { XDG_CONFIG_HOME, APPDATA } = process.env
  const folder = XDG_CONFIG_HOME || (process.platform === 'win32' && APPDATA) || join(homedir(), '.config')
  return join(folder, 'mission-deck', 'sessions.json')
}

const readAll = async (): Promise<Record<string, KeptSession>> => {
  const text = await readFile(file(), 'utf8').catch(() => '{}')
  try {
    return JSON.parse(text) as Record<string, KeptSession>
  } catch {
    return {}
  }
}

/** Returns the session on a server, by its origin. */
export const keptSession = async (origin: string): Promise<KeptSession | undefined> => {
  const kept = (await readAll())[origin]
  return typeof kept?.session === 'string' ? kept : undefined
}

/** Keeps a session, or removes the one that is kept. */
export const keepSession = async (origin: string, session: KeptSession | undefined): Promise<void> => {
  const others = Object.entries(await readAll()).filter(([name]) => name !== origin)
  const path = file()
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  // (Renamed, so that a reader never finds half a file.)
  const part = `${path}.${process.pid}`
  await writeFile(
    part,
    JSON.stringify(Object.fromEntries(session ? [...others, [origin, session]] : others), null, 2),
    { mode: 0o600 },
  )
  await chmod(part, 0o600)
  await rename(part, path)
}

/** POSTs to /auth as the session: with its cookie and the server's own Origin. */
export const postAsSession = (
  origin: string,
  path: string,
  { session }: Pick<KeptSession, 'session'>,
): Promise<Response> => fetch(origin + path, { method: 'POST', headers: { origin, cookie: `deck_session=${session}` } })
