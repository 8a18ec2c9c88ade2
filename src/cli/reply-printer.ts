// A reply on the screen while it is written. One at a time; whatever else has to be shown interrupts it, and it is shown whole
// once it is stored. What is on the screen stays: where the writer starts over, so does the view, below.
import type { Message } from '../protocol/rows.ts'
import { plain, type Io } from './output.ts'
import { makeScribe, placeOf, writeBlocks, type Scribe } from './markdown-printer.ts'

export type Draft = { key: string; citizen: string; text: string }
type Shown = { key: string; text: string; scribe: Scribe }

export const makeReplyView = (io: Io) => {
  let shown: Shown | undefined
  /** replies that were interrupted: shown when they are stored */
  const left = new Set<string>()

  const begin = ({ key, citizen }: Draft): Shown => {
    io.write(`${io.paint('bold', plain(citizen))} ${io.paint('dim', '…')}\n`)
    return { key, text: '', scribe: makeScribe(io) }
  }
  const remark = (text: string): void => {
    shown?.scribe.end()
    io.write(io.paint('dim', `(${text})\n`))
  }
  const advance = (to: string, why: string): void => {
    if (!shown) return
    if (!to.startsWith(shown.text)) {
      remark(why)
      Object.assign(shown, { text: '', scribe: makeScribe(io) })
    }
    shown.scribe.write(to.slice(shown.text.length))
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
      advance(draft.text, 'begun again')
    },
    aborted(key: string): void {
      left.delete(key)
      if (shown?.key !== key) return
      remark('given up')
      io.write('\n')
      shown = undefined
    },
    /** Whether the message is one whose growing was seen, and by this is shown whole; else the caller shows it. */
    stored(message: Message): boolean {
      if (shown && message.sender === 'citizen' && shown.key === message.key) {
        advance(message.message, 'stored as')
        shown.scribe.end()
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
