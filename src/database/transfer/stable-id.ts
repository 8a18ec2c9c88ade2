// IDs that are derived from their content, so that an import that is run again recognizes what it has saved.
import * as crypto from 'node:crypto'

/**
 * Returns a version 8 UUID that depends only on the name, the bytes and the order. It begins with `order`, the line's time or number, so that
 * an import's ids ascend and the index of ids grows at its end.
 */
export const stableId = (name: string, bytes: Buffer, order: number): string => {
  const named = Buffer.allocUnsafe(bytes.length + 3 * name.length)
  const end = named.write(name)
  const hex = digest(named.subarray(0, end + bytes.copy(named, end)))
  const time = order.toString(16).padStart(12, '0')
  const variant = ((Number.parseInt(hex.slice(3, 4), 16) & 3) | 8).toString(16)
  return `${time.slice(0, 8)}-${time.slice(8)}-8${hex.slice(0, 3)}-${variant}${hex.slice(4, 7)}-${hex.slice(7, 19)}`
}
/** SHA-256 in hex. crypto.hash (Node 20.12 and later) is three times as fast. */
const digest: (bytes: Buffer) => string =
  'hash' in crypto
    ? (bytes) => crypto.hash('sha256', bytes)
    : (bytes) => crypto.createHash('sha256').update(bytes).digest('hex')
