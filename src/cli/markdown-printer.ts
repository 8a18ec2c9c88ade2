// Prints a message's Markdown while it arrives: prose at once, fenced code line by line. A terminal gets a bar and colours
// for code. Printed text is never changed, so the output can also be piped.
import type { Message } from '../protocol/rows.ts'
import { makeColourist } from './code-printer.ts'
import { plain, type Io } from './output.ts'

export type Printer = {
  write(text: string): void
  /** Ends the last line. */
  end(): void
}

const opening = /^ {0,3}(`{3,}|~{3,})\s*([^\s`]*)[^`]*$/
const closing = /^ {0,3}(`{3,}|~{3,})\s*$/
/** The beginning of a line that may still become a fence. */
const maybeFence = /^ {0,3}(`{0,2}|`{3,}[^`]*|~{0,2}|~{3,}.*)$/

export const makePrinter = (io: Io): Printer => {
  // Piped code has no bar, so that it can be copied.
  const bar = io.live ? `${io.paint('dim', '│')} ` : ''
  let fence: string | undefined
  let colour = (line: string): string => line
  /** the part of the current line that is not printed yet, and whether a part is */
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

/** A message's author. */
export const nameOf = ({ sender, citizen, author }: Message): string =>
  plain(sender === 'citizen' ? citizen : (author ?? sender))

/** A message's seq and time. */
export const placeOf = ({ seq, created_at }: Message): string => `#${seq} ${created_at.slice(0, 16).replace('T', ' ')}`

/** Prints a message's code blocks, except those that its text contains. */
export const writeBlocks = (io: Io, { message, code_blocks }: Message): void => {
  for (const { language, code } of code_blocks ?? []) {
    if (message.includes(code.replace(/\n$/, ''))) continue
    const printer = makePrinter(io)
    const fence = '`'.repeat(Math.max(3, ...[...code.matchAll(/`+/g)].map(([run]) => run.length + 1)))
    printer.write(`${fence}${language ?? ''}\n${code.replace(/\n$/, '')}\n${fence}`)
    printer.end()
  }
}

/** Prints a message with its author, seq and time. `answers`: the seq of the message that it answers. */
export const writeMessage = (io: Io, message: Message, answers?: number): void => {
  const place = answers === undefined ? placeOf(message) : `${placeOf(message)}, answers #${answers}`
  io.write(`${io.paint('bold', nameOf(message))} ${io.paint('dim', place)}\n`)
  if (message.redacted) {
    io.write(io.paint('dim', `(redacted by ${plain(message.redacted.by)})\n\n`))
    return
  }
  const printer = makePrinter(io)
  printer.write(message.message)
  printer.end()
  writeBlocks(io, message)
  io.write('\n')
}
