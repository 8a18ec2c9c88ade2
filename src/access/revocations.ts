// Who was shut out: subjects and tokens (by `jti`) that are refused whatever they can prove.
// The list is the database's; each instance holds a copy, read before it serves, again when told of a change, and slowly
// always. What was known stays known while the database is away.
import type { Actor } from './actor.ts'

export type Revocations = {
  has(actor: Actor): boolean
  /** Reads the list again if it changed. */
  check(): Promise<void>
}

export const makeRevocations = (options: {
  /** what changes whenever the list does */
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
    has: ({ sub, token }) => names.size > 0 && (names.has(sub) || (token !== undefined && names.has(token))),
    check() {
      // A look that is under way may have been too early.
      again = running !== undefined
      return (running ??= read().finally(() => (running = undefined)))
    },
  }
}
