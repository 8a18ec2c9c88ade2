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
    // Not by Object.entries: an array of a million numbers takes 5 ms so, and 500 ms with a pair made of each.
    if (Array.isArray(value)) for (const inner of value) check(inner, depth + 1)
    else
      for (const key in value) {
        check(key, depth)
        check((value as Record<string, unknown>)[key], depth + 1)
      }
  }
}

// JSON.parse takes up to two seconds for a million levels, and some 20 ms for so many.
const parsedDepth = 32_768

/** Whether brackets are nested so deep that the text is not even parsed; by one walk, 15 ms for 2 MiB. */
export const isAbyss = (text: string): boolean => {
  if (text.length < parsedDepth) return false
  let depth = 0
  let quoted = false
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (quoted) {
      if (code === 0x5c) i++
      else if (code === 0x22) quoted = false
    } else if (code === 0x22) quoted = true
    else if (code === 0x5b || code === 0x7b) {
      if (++depth > parsedDepth) return true
    } else if (code === 0x5d || code === 0x7d) depth--
  }
  return false
}

/** Parses JSON; what is none, holds text that can't be stored, or is nested over 64 deep is `bad_request`. */
export const parseJson = (text: string): unknown => {
  if (isAbyss(text)) throw deny('bad_request', 'the JSON is nested too deep')
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw deny('bad_request', 'not JSON')
  }
  check(value, 0)
  return value
}
