// Encodes arrays in Postgres's binary format, for parameters. In text format each element would be quoted here and parsed by Postgres.
// Format: number of dimensions, whether there are nulls, the element type, each dimension's length and first index, then each element's
// length and bytes; length -1 means null.

const head = 20

const begin = (bytes: number, type: number, nulls: boolean, length: number): Buffer => {
  const buffer = Buffer.allocUnsafe(head + 4 * length + bytes)
  buffer.writeInt32BE(1, 0)
  buffer.writeInt32BE(nulls ? 1 : 0, 4)
  buffer.writeInt32BE(type, 8)
  buffer.writeInt32BE(length, 12)
  buffer.writeInt32BE(1, 16)
  return buffer
}

/** Returns a text[], or null if all values are null. */
export const texts = (values: readonly (string | null | undefined)[]): Buffer | null => {
  let bytes = 0
  let nulls = 0
  // Senders and authors often repeat within a batch: the length of the last value is reused.
  let last: string | null | undefined
  let size = 0
  for (const value of values) {
    if (value == null) nulls++
    else bytes += value === last ? size : (size = Buffer.byteLength((last = value)))
  }
  if (nulls === values.length) return null
  const buffer = begin(bytes, 25, nulls > 0, values.length)
  let at = head
  for (const value of values) {
    if (value == null) at = buffer.writeInt32BE(-1, at)
    else {
      const written = value === '' ? 0 : buffer.write(value, at + 4)
      at = buffer.writeInt32BE(written, at) + written
    }
  }
  return buffer
}

/** integer[] */
export const integers = (values: readonly number[]): Buffer => {
  const buffer = begin(4 * values.length, 23, false, values.length)
  let at = head
  for (const value of values) at = buffer.writeInt32BE(value, buffer.writeInt32BE(4, at))
  return buffer
}

/** Returns a boolean[], or null if all values are false. */
export const booleans = (values: readonly boolean[]): Buffer | null => {
  if (!values.includes(true)) return null
  const buffer = begin(values.length, 16, false, values.length)
  let at = head
  for (const value of values) at = buffer.writeUInt8(value ? 1 : 0, buffer.writeInt32BE(1, at))
  return buffer
}

/** Returns a uuid[]. Throws a TypeError if a value is not a UUID. */
export const uuids = (values: readonly string[]): Buffer => nullableUuids(values)

/** Returns a uuid[]; undefined becomes null. Throws a TypeError if a value is not a UUID. */
export const nullableUuids = (values: readonly (string | null | undefined)[]): Buffer => {
  const given = values.filter((value) => value != null).length
  const buffer = begin(16 * given, 2950, given < values.length, values.length)
  let at = head
  for (const value of values) {
    at = buffer.writeInt32BE(value == null ? -1 : 16, at)
    if (value == null) continue
    if (buffer.write(value.replaceAll('-', ''), at, 16, 'hex') !== 16) throw new TypeError('not a UUID')
    at += 16
  }
  return buffer
}

/** Returns a text[] from UTF-8 bytes. */
export const rawTexts = (values: readonly Buffer[]): Buffer => {
  const bytes = values.reduce((sum, value) => sum + value.length, 0)
  const buffer = begin(bytes, 25, false, values.length)
  let at = head
  for (const value of values) at = buffer.writeInt32BE(value.length, at) + value.copy(buffer, at + 4)
  return buffer
}

/** Returns a timestamp[] from µs since 2000, or null if all values are null. */
export const timestamps = (values: readonly (bigint | null)[]): Buffer | null => {
  const given = values.filter((value) => value !== null).length
  if (given === 0) return null
  const buffer = begin(8 * given, 1114, given < values.length, values.length)
  let at = head
  for (const value of values) {
    at = buffer.writeInt32BE(value === null ? -1 : 8, at)
    if (value !== null) at = buffer.writeBigInt64BE(value, at)
  }
  return buffer
}
