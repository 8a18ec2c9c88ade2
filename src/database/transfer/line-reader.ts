// Splits a stream into lines of bytes, some at a time. Memory is bounded: a line that is too long is not kept.

/** Lines without line feeds, undefined for a line that was too long; and the number of bytes that were read for them. */
export type Lines = AsyncIterable<{ lines: (Buffer | undefined)[]; bytes: number }>

const mark = Buffer.from('\ufeff')

export async function* readLines(source: AsyncIterable<Buffer>, most: () => number): Lines {
  let parts: Buffer[] = []
  let held = 0
  let long = false
  let first = true
  const end = (): Buffer | undefined => {
    let line = long ? undefined : parts.length === 1 ? parts[0] : Buffer.concat(parts)
    // A byte order mark is not part of the first line.
    if (first && line?.subarray(0, 3).equals(mark)) line = line.subarray(3)
    first = false
    parts = []
    held = 0
    long = false
    return line
  }
  const hold = (part: Buffer): void => {
    held += part.length
    if (held > most()) {
      long = true
      parts = []
    } else parts.push(part)
  }
  for await (const chunk of source) {
    const bytes = chunk.length
    const lines: (Buffer | undefined)[] = []
    let from = 0
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      hold(chunk.subarray(from, at))
      lines.push(end())
      from = at + 1
    }
    if (from < chunk.length) hold(chunk.subarray(from))
    yield { lines, bytes }
  }
  if (held > 0) yield { lines: [end()], bytes: 0 }
}
