// Sealing: what instances tell one another beside the log is read, and believed, by instances only. Anybody who may connect to the
// database can LISTEN and NOTIFY, and any client of NATS can publish there: so each message is encrypted and authenticated by a key
// that only the server's role can read, and carries its sender, a number and a time: a copy is refused.
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'

export type Seal = {
  /** Takes the key, 32 bytes; what comes before is neither sent nor heard. */
  use(key: Buffer): void
  /** undefined: there is no key yet */
  seal(text: string): string | undefined
  /** The text; undefined if it is forged, a copy, too old, or this instance's own. */
  open(sealed: string): string | undefined
}

const algorithm = 'aes-256-gcm'
const nonceBytes = 12
const tagBytes = 16
/** ms by which clocks of instances may differ, and for which a number is remembered. */
const fresh = 60_000
/** Numbers before a sender's last that may still come: pools and networks change the order. */
const window = 4096
/** Senders that are known at a time. */
const senders = 10_000

type Sender = { last: number; seen: Set<number> }

/** `origin`: this instance's name. */
export const makeSeal = (origin: string): Seal => {
  let key: Buffer | undefined
  const heard = new Map<string, Sender>()
  let number = 0

  const isNew = (from: string, n: number): boolean => {
    let sender = heard.get(from)
    if (!sender) {
      if (heard.size >= senders) for (const oldest of heard.keys()) if (heard.delete(oldest)) break
      heard.set(from, (sender = { last: n, seen: new Set() }))
    }
    if (n <= sender.last - window || sender.seen.has(n)) return false
    sender.seen.add(n)
    sender.last = Math.max(sender.last, n)
    if (sender.seen.size > 2 * window)
      for (const old of sender.seen) if (old <= sender.last - window) sender.seen.delete(old)
    return true
  }

  return {
    use: (given) => void (key = given),
    seal(text) {
      if (!key) return undefined
      const nonce = randomBytes(nonceBytes)
      const cipher = createCipheriv(algorithm, key, nonce)
      const body = cipher.update(`${origin} ${++number} ${Date.now()} ${text}`, 'utf8')
      return Buffer.concat([nonce, body, cipher.final(), cipher.getAuthTag()]).toString('base64url')
    },
    open(sealed) {
      const bytes = Buffer.from(sealed, 'base64url')
      if (!key || bytes.length < nonceBytes + tagBytes) return undefined
      const decipher = createDecipheriv(algorithm, key, bytes.subarray(0, nonceBytes))
      decipher.setAuthTag(bytes.subarray(-tagBytes))
      let text: string
      try {
        text = decipher.update(bytes.subarray(nonceBytes, -tagBytes), undefined, 'utf8') + decipher.final('utf8')
      } catch {
        return undefined
      }
      const [, from = '', n = '', at = '', told = ''] = /^(\S+) (\d+) (\d+) ([^]*)$/.exec(text) ?? []
      const now = Date.now()
      if (from === origin || Math.abs(now - Number(at)) > fresh || !isNew(from, Number(n))) return undefined
      return told
    },
  }
}
