// Prints a reply and its steps while it is written, one at a time. Other output interrupts it; it is then printed again once it is stored.
// Printed text stays on the screen. If the writer starts over, the new text is printed below.
import type { Activity } from '../protocol/activity.ts'
import type { Message } from '../protocol/rows.ts'
import { plain, type Io } from './output.ts'
import { makePrinter, placeOf, writeBlocks, type Printer } from './markdown-printer.ts'
import { makeStepLines } from './step-lines.ts'

export type Draft = { key: string; citizen: string; text: string; activity?: readonly Activity[] }
type Shown = { key: string; text: string; printer: Printer; changed: ReturnType<typeof makeStepLines> }

export const makeReplyView = (io: Io) => {
  let shown: Shown | undefined
  /** keys of interrupted replies, which are printed when they are stored */
  const left = new Set<string>()

  const begin = ({ key, citizen }: Draft): Shown => {
    io.write(`${io.paint('bold', plain(citizen))} ${io.paint('dim', '…')}\n`)
    return { key, text: '', printer: makePrinter(io), changed: makeStepLines() }
  }
  const remark = (text: string): void => {
    shown?.printer.end()
    io.write(io.paint('dim', `(${text})\n`))
  }
  const advance = (to: string, why: string): void => {
    if (!shown) return
    if (!to.startsWith(shown.text)) {
      remark(why)
      Object.assign(shown, { text: '', printer: makePrinter(io) })
    }
    shown.printer.write(to.slice(shown.text.length))
    shown.text = to
  }
  const interrupt = (): void => {
    if (!shown) return
    left.add(shown.key)
    remark('to be continued')
    io.write('\n')
    shown = undefined
  }

  return {
    interrupt,
    grow(draft: Draft): void {
      if (left.has(draft.key) || (shown && shown.key !== draft.key)) return
      shown ??= begin(draft)
      advance(draft.text, 'started over')
      for (const line of shown.changed(draft.activity)) {
        shown.printer.end()
        io.write(io.paint('dim', `${line}\n`))
      }
    },
    aborted(key: string): void {
      left.delete(key)
      if (shown?.key !== key) return
      remark('aborted')
      io.write('\n')
      shown = undefined
    },
    /** Completes the reply on the screen. Returns false if the message is not that reply: then the caller prints it. */
    stored(message: Message): boolean {
      if (shown && message.sender === 'citizen' && shown.key === message.key) {
        advance(message.message, 'stored as')
        shown.printer.end()
        writeBlocks(io, message)
        io.write(`${io.paint('dim', placeOf(message))}\n\n`)
        shown = undefined
        return true
      }
      interrupt()
      if (message.key !== null) left.delete(message.key)
      return false
    },
  }
}
