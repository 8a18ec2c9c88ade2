// Encodes texts as WebSocket frames (RFC 6455), and lists the close codes that the server sends.

/** The close codes that the server sends, besides 1007 and 1009, which ws sends itself. */
export const closeCodes = {
  restart: 1012,
  overloaded: 1013,
  protocol: 4400,
  token: 4401,
  slow: 4408,
  rate: 4429,
} as const

/** A text, or its parts, so that a long part of several texts is not copied into each. */
export type Text = string | readonly string[]

/** Encoded text frames (RFC 6455: final, not masked), and the end offset of each. */
export type Chunk = { bytes: Buffer; ends: readonly number[] }

const headOf = (size: number): number => (size < 126 ? 2 : size < 65_536 ? 4 : 10)
const textSize = (text: Text): number =>
  typeof text === 'string' ? Buffer.byteLength(text) : text.reduce((sum, part) => sum + Buffer.byteLength(part), 0)

/** Returns the bytes that a text takes as a frame. */
export const frameSize = (text: Text): number => {
  const size = textSize(text)
  return headOf(size) + size
}

/** Writes a text as a frame of `size` bytes into a buffer that has room for it. Returns the end offset. */
export const writeFrame = (text: Text, size: number, buffer: Buffer, at: number): number => {
  const head = size < 128 ? 2 : size < 65_540 ? 4 : 10
  buffer[at] = 0x81
  if (head === 2) buffer[at + 1] = size - 2
  else if (head === 4) {
    buffer[at + 1] = 126
    buffer.writeUInt16BE(size - 4, at + 2)
  } else {
    buffer[at + 1] = 127
    buffer.writeUInt32BE(0, at + 2)
    buffer.writeUInt32BE(size - 10, at + 6)
  }
  let end = at + head
  if (typeof text === 'string') return end + buffer.write(text, end)
  for (const part of text) end += buffer.write(part, end)
  return end
}

/** Encodes texts once, for any number of sockets. */
export const toChunk = (texts: readonly Text[]): Chunk => {
  const sizes = texts.map(frameSize)
  const bytes = Buffer.allocUnsafe(sizes.reduce((sum, size) => sum + size, 0))
  let at = 0
  return { bytes, ends: texts.map((text, i) => (at = writeFrame(text, sizes[i] ?? 0, bytes, at))) }
}
