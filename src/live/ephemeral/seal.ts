// Sealing: messages between instances that only instances can read and forge. Any login of the database can LISTEN and NOTIFY, and any
// client of NATS can publish. So each message is encrypted and authenticated with a key that only the server's role can read; the mark
// (its kind) is authenticated too. It carries its sender, a number and a time, so that a replayed copy is refused. Times are the
// database's, so the instances' clocks need not agree.
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'

export type Seal = {
  /** Sets the key (32 bytes) and the database's time (ms) at `at` (performance.now). Before, no message is sent or received. */
  use(key: Buffer, time: number, at: number): void
  /** Returns undefined if the key is not set yet. */
  seal(mark: string, text: string): string | undefined
  /** Returns the text and when it was sent (performance.now); undefined if it is forged, a copy, too old, or this instance's own. */
  open(mark: string, sealed: string): { text: string; sentAt: number } | undefined
}

const algorithm = 'aes-256-gcm'
const nonceBytes = 12
const tagBytes = 16
/** ms for which a message is valid. When a sender is forgotten, its messages are too old to be replayed. */
const fresh = 60_000
/** How far behind a sender's highest number a message may be: pools and networks reorder messages. */
const window = 4096
/** Senders that are remembered at a time. */
const senders = 10_000

type Sender = { last: number; seen: Set<number> }

/** `origin`: this instance's name. */
export const makeSeal = (origin: string): Seal => {
  let key: Buffer | undefined
  const known = new Map<string, Sender>()
  let number = 0
  let offset = 0

  const isNew = (from: string, n: number): boolean => {
    let sender = known.get(from)
    if (!sender) {
      if (known.size >= senders) for (const oldest of known.keys()) if (known.delete(oldest)) break
      known.set(from, (sender = { last: n, seen: new Set() }))
    }
    if (n <= sender.last - window || sender.seen.has(n)) return false
    sender.seen.add(n)
    sender.last = Math.max(sender.last, n)
    if (sender.seen.size > 2 * window)
      for (const old of sender.seen) if (old <= sender.last - window) sender.seen.delete(old)
    return true
  }

  return {
    use(given, time, at) {
      key = given
      offset = time - at
    },
    seal(mark, text) {
      if (!key) return undefined
      const nonce = randomBytes(nonceBytes)
      const cipher = createCipheriv(algorithm, key, nonce)
      cipher.setAAD(Buffer.from(mark))
      const time = Math.round(performance.now() + offset)
      const body = cipher.update(`${origin} ${++number} ${time} ${text}`, 'utf8')
      return Buffer.concat([nonce, body, cipher.final(), cipher.getAuthTag()]).toString('base64url')
    },
    open(mark, sealed) {
      const bytes = Buffer.from(sealed, 'base64url')
      if (!key || bytes.length < nonceBytes + tagBytes) return undefined
      const decipher = createDecipheriv(algorithm, key, bytes.subarray(0, nonceBytes))
      decipher.setAAD(Buffer.from(mark))
      decipher.setAuthTag(bytes.subarray(-tagBytes))
      let text: string
      try {
        text = decipher.update(bytes.subarray(nonceBytes, -tagBytes), undefined, 'utf8') + decipher.final('utf8')
      } catch {
        return undefined
      }
      const [, from = '', n = '', at = '', body = ''] = /^(\S+) (\d+) (\d+) ([^]*)$/.exec(text) ?? []
      const sentAt = Number(at) - offset
      const old = Math.abs(performance.now() - sentAt) > fresh
      return from === origin || old || !isNew(from, Number(n)) ? undefined : { text: body, sentAt }
    },
  }
}
