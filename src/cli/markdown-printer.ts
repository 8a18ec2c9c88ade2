// Writes a message's Markdown to a terminal as it comes: prose at once, lines of fenced code whole, behind a bar and in
// colours where somebody looks. What is written is never taken back, so that it can be piped, too.
import type { Message } from '../protocol/rows.ts'
import { makeColourist } from './code-printer.ts'
import { plain, type Io } from './output.ts'

export type Scribe = {
  write(text: string): void
  /** Ends the last line. */
  end(): void
}

const opening = /^ {0,3}(`{3,}|~{3,})\s*([^\s`]*)[^`]*$/
const closing = /^ {0,3}(`{3,}|~{3,})\s*$/
/** The beginning of a line that may still become a fence. */
const maybeFence = /^ {0,3}(`{0,2}|`{3,}[^`]*|~{0,2}|~{3,}.*)$/

export const makeScribe = (io: Io): Scribe => {
  // What is piped is to be copied.
  const bar = io.live ? `${io.paint('dim', '│')} ` : ''
  let fence: string | undefined
  let colour = (line: string): string => line
  /** of the line that is under way: what is not yet written, and whether something is */
  let held = ''
  let begun = false

  const line = (text: string): void => {
    if (fence === undefined) {
      const found = opening.exec(text)
      if (found) {
        fence = found[1]
        colour = makeColourist(io.paint, found[2] || null)
      }
      return io.write(`${found ? io.paint('dim', text) : text}\n`)
    }
    const end = closing.exec(text)?.[1]
    if (end?.startsWith(fence)) {
      fence = undefined
      return io.write(`${io.paint('dim', text)}\n`)
    }
    io.write(`${bar}${colour(text)}\n`)
  }

  const flush = (): void => {
    if (held === '' || fence !== undefined || (!begun && maybeFence.test(held))) return
    io.write(held)
    held = ''
    begun = true
  }

  return {
    write(text) {
      const lines = (held + plain(text)).split('\n')
      held = lines.pop() ?? ''
      for (const whole of lines) {
        if (begun) io.write(`${whole}\n`)
        else line(whole)
        begun = false
      }
      flush()
    },
    end() {
      if (begun) io.write(`${held}\n`)
      else if (held !== '') line(held)
      held = ''
      begun = false
      fence = undefined
    },
  }
}

/** Who wrote a message. */
export const nameOf = ({ sender, citizen, author }: Message): string =>
  plain(sender === 'citizen' ? citizen : (author ?? sender))

/** Its seq and time. */
export const placeOf = ({ seq, created_at }: Message): string => `#${seq} ${created_at.slice(0, 16).replace('T', ' ')}`

/** Blocks that a message brings besides its text. */
export const writeBlocks = (io: Io, { message, code_blocks }: Message): void => {
  for (const { language, code } of code_blocks ?? []) {
    if (message.includes(code.replace(/\n$/, ''))) continue
    const scribe = makeScribe(io)
    const fence = '`'.repeat(Math.max(3, ...[...code.matchAll(/`+/g)].map(([run]) => run.length + 1)))
    scribe.write(`${fence}${language ?? ''}\n${code.replace(/\n$/, '')}\n${fence}`)
    scribe.end()
  }
}

/** A whole message. */
export const writeMessage = (io: Io, message: Message): void => {
  io.write(`${io.paint('bold', nameOf(message))} ${io.paint('dim', placeOf(message))}\n`)
  const scribe = makeScribe(io)
  scribe.write(message.message)
  scribe.end()
  writeBlocks(io, message)
  io.write('\n')
}
