// Decodes a report. A byte order mark and the bytes themselves take precedence over an XML declaration.
// Invalid bytes become U+FFFD, so that one bad byte does not lose the report.

const controls = '€\x81‚ƒ„…†‡ˆ‰Š‹Œ\x8dŽ\x8f\x90‘’“”•–—˜™š›œ\x9džŸ'

/** Returns a function that decodes bytes, piece by piece. */
const makeDecoder = (encoding: string): ((chunk?: Uint8Array) => string) => {
  const decoder = new TextDecoder(encoding)
  // Some versions of Node 20 to 23 decode it as ISO-8859-1 (nodejs/node#56542).
  if (decoder.encoding === 'windows-1252')
    return (chunk = new Uint8Array()) =>
      Buffer.from(chunk)
        .toString('latin1')
        .replace(/[\x80-\x9f]/g, (char) => controls[char.charCodeAt(0) - 0x80] ?? char)
  return (chunk) => (chunk ? decoder.decode(chunk, { stream: true }) : decoder.decode())
}

/** Yields the text of a file. `encodingOf` returns its encoding from its first bytes: `least` of them, or all if there are fewer. */
const decoded = async function* (
  source: AsyncIterable<Uint8Array>,
  least: number,
  encodingOf: (start: Uint8Array) => string,
): AsyncGenerator<string> {
  let start = Buffer.alloc(0)
  let decode: ReturnType<typeof makeDecoder> | undefined
  for await (const chunk of source) {
    if (decode) yield decode(chunk)
    else {
      start = Buffer.concat([start, chunk])
      if (start.length < least) continue
      decode = makeDecoder(encodingOf(start))
      yield decode(start)
    }
  }
  if (!decode) {
    decode = makeDecoder(encodingOf(start))
    yield decode(start)
  }
  yield decode()
}

/** The encoding that a byte order mark names. */
const marked = (start: Uint8Array): string | undefined => {
  const hex = Buffer.from(start.subarray(0, 3)).toString('hex')
  return hex === 'efbbbf' ? 'utf-8' : { fffe: 'utf-16le', feff: 'utf-16be' }[hex.slice(0, 4)]
}

const isUtf8 = (start: Uint8Array): boolean => {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(start, { stream: true })
    return true
  } catch {
    return false
  }
}

const declaration = /^[^]*?(?:<testsuite|<\?xml\s[^>]*?\bencoding\s*=\s*["']([^"'>]*)["'])/

/** Returns the encoding of an XML file. Throws the error that `fault` makes if the declared encoding is unknown. */
const encodingOfXml = (start: Uint8Array, fault: (text: string) => Error): string => {
  const mark = marked(start)
  if (mark !== undefined) return mark
  // ASCII in UTF-16: each second byte is 0.
  if (start[0] === 0 && start[1] !== 0) return 'utf-16be'
  if (start[1] === 0 && start[0] !== 0) return 'utf-16le'
  const [, label = 'utf-8'] = declaration.exec(Buffer.from(start).toString('latin1')) ?? []
  let named: string
  try {
    named = new TextDecoder(label).encoding
  } catch {
    throw fault(`its encoding ${label} is not supported: convert it to UTF-8`)
  }
  // The bytes are not UTF-16. Text in another encoding is hardly ever valid UTF-8 beyond ASCII.
  if (named.startsWith('utf-16') || (start.some((byte) => byte > 0x7f) && isUtf8(start))) return 'utf-8'
  return named
}

// The bytes of an XML file that are searched for its encoding.
const xmlStart = 64 * 1024

export const decodedXml = (source: AsyncIterable<Uint8Array>, fault: (text: string) => Error): AsyncGenerator<string> =>
  decoded(source, xmlStart, (start) => encodingOfXml(start, fault))

/** Yields text in UTF-8 or, with a byte order mark as PowerShell writes it, in UTF-16. */
export const decodedText = (source: AsyncIterable<Uint8Array>): AsyncGenerator<string> =>
  decoded(source, 2, (start) => marked(start) ?? 'utf-8')
