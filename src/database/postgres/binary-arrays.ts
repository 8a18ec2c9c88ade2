// Arrays in Postgres' binary format, for parameters: as text each element would be quoted here and parsed there.
// (Format: dimensions, whether there are nulls, the element's type, then for each dimension its length and first index,
// then each element as its length and bytes, length -1 for null.)

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

/** text[]; null if it would hold nulls only. */
export const texts = (values: readonly (string | null | undefined)[]): Buffer | null => {
  let bytes = 0
  let nulls = 0
  // Batches repeat their senders and authors.
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

/** boolean[]; null if all are false. */
export const booleans = (values: readonly boolean[]): Buffer | null => {
  if (!values.includes(true)) return null
  const buffer = begin(values.length, 16, false, values.length)
  let at = head
  for (const value of values) at = buffer.writeUInt8(value ? 1 : 0, buffer.writeInt32BE(1, at))
  return buffer
}

/** uuid[]; what is no UUID throws. */
export const uuids = (values: readonly string[]): Buffer => nullableUuids(values)

/** uuid[] that may hold nulls. */
export const nullableUuids = (values: readonly (string | undefined)[]): Buffer => {
  const given = values.filter((value) => value !== undefined).length
  const buffer = begin(16 * given, 2950, given < values.length, values.length)
  let at = head
  for (const value of values) {
    at = buffer.writeInt32BE(value === undefined ? -1 : 16, at)
    if (value === undefined) continue
    if (buffer.write(value.replaceAll('-', ''), at, 16, 'hex') !== 16) throw new TypeError('not a UUID')
    at += 16
  }
  return buffer
}

/** text[] of what is UTF-8 already. */
export const rawTexts = (values: readonly Buffer[]): Buffer => {
  const bytes = values.reduce((sum, value) => sum + value.length, 0)
  const buffer = begin(bytes, 25, false, values.length)
  let at = head
  for (const value of values) at = buffer.writeInt32BE(value.length, at) + value.copy(buffer, at + 4)
  return buffer
}

/** timestamp[] of µs since 2000; null if it would hold nulls only. */
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
