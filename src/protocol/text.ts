// Text and JSON at the door: what Postgres can't hold exactly (U+0000, lone surrogates) is refused, never altered.
import { deny } from './errors.ts'

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Whether Postgres holds this text byte for byte. */
export const storable = (text: string): boolean => !text.includes('\0') && text.isWellFormed()

/** Bytes to text; what is not UTF-8, or holds U+0000, is `bad_request`. */
export const decode = (bytes: Uint8Array): string => {
  let text
  try {
    text = utf8.decode(bytes)
  } catch {
    throw deny('bad_request', 'the body is not UTF-8')
  }
  if (text.includes('\0')) throw deny('bad_request', 'U+0000 can not be stored')
  return text
}

/** Levels of nesting that JSON may have: deeper than any test report, far from any stack's end. */
export const jsonDepth = 64

const check = (value: unknown, depth: number): void => {
  if (typeof value === 'string') {
    if (!storable(value)) throw deny('bad_request', 'U+0000 and lone surrogates can not be stored')
  } else if (typeof value === 'number') {
    // 1e400 is read as Infinity, which JSON can't say again.
    if (!Number.isFinite(value)) throw deny('bad_request', 'a number is out of range')
  } else if (typeof value === 'object' && value !== null) {
    if (depth === jsonDepth) throw deny('bad_request', 'the JSON is nested too deep')
    for (const [key, inner] of Object.entries(value)) {
      check(key, depth)
      check(inner, depth + 1)
    }
  }
}

/** Parses JSON; what is none, holds text that can't be stored, or is nested over 64 deep is `bad_request`. */
export const parseJson = (text: string): unknown => {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw deny('bad_request', 'not JSON')
  }
  check(value, 0)
  return value
}
