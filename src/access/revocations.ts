// Revocations: subjects, tokens (by `jti`) and ended sessions (by `sid`) that are refused although the token is valid.
// The list is in the database. Each instance holds a copy: read before it serves, again after a notification, and polled. While the
// database is down the last copy is used.
import type { Actor } from './actor.ts'

export type Revocations = {
  has(actor: Actor): boolean
  /** Reads the list if it has changed. */
  check(): Promise<void>
}

export const makeRevocations = (options: {
  /** Returns a value that changes with the list. */
  stamp: () => Promise<string>
  names: () => Promise<string[]>
  /** called after the list has changed */
  onChange: () => void
}): Revocations => {
  let names: ReadonlySet<string> = new Set()
  let stamp = ''
  let running: Promise<void> | undefined
  let again = false

  const read = async (): Promise<void> => {
    do {
      again = false
      const now = await options.stamp()
      if (now === stamp) continue
      names = new Set(await options.names())
      stamp = now
      options.onChange()
    } while (again)
  }
  return {
    has: ({ sub, token, session }) =>
      names.size > 0 && [sub, token, session].some((name) => name !== undefined && names.has(name)),
    check() {
      // A running check may have read the list before the change.
      again = running !== undefined
      return (running ??= read().finally(() => (running = undefined)))
    },
  }
}
