// The secret that tokens are signed with: JWT_SECRET or, without it, the secret in this folder's .data; '' if neither exists.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

export const ownSecret = async (): Promise<string> => {
  const { DATA_DIR = '.data', JWT_SECRET } = process.env
  return JWT_SECRET || (await readFile(join(DATA_DIR, 'jwt-secret'), 'utf8').catch(() => '')).trim()
}
