// The messages that replies answer: taken from the loaded pages, or else read by their IDs.
import { signal, type Signal } from '@preact/signals'
import type { Chat, Deck, Message } from '../../client/index.ts'
import { persist } from './online.ts'
import type { Pages } from './pages.ts'

const most = 1000
const characters = 200

export type Quote = { id: string; seq: number; text: string } & Pick<Message, 'sender' | 'author' | 'citizen'>

/** What stands for a text that was taken back. */
const redactedText = '(redacted)'

export const quoteOf = ({ id, seq, sender, author, citizen, message, redacted }: Message): Quote => ({
  id,
  seq,
  sender,
  author,
  citizen,
  text: redacted ? redactedText : message.slice(0, characters).replace(/\s+/g, ' ').trim(),
})

export const makeQuotes = (deck: Deck, client: Chat, pages: Pages, ended: AbortSignal) => {
  const held = new Map<string, Signal<Quote | null | undefined>>()
  return {
    /** The message that a reply names; undefined while it is loading, null if it is gone. */
    of(id: string): Quote | null | undefined {
      let quote = held.get(id)
      if (!quote) {
        const found = pages.named(id)
        const made: Signal<Quote | null | undefined> = signal(found && quoteOf(found))
        held.set(id, (quote = made))
        for (const oldest of held.keys()) {
          if (held.size <= most) break
          held.delete(oldest)
        }
        if (!found)
          persist(deck, ended, (signal) => client.message(id, { signal })).then(
            (message) => void (made.value = quoteOf(message)),
            () => void (made.value = null),
          )
      }
      return quote.value
    },
    /** Its text is gone. */
    redact(id: string): void {
      const quote = held.get(id)
      if (quote?.value) quote.value = { ...quote.value, text: redactedText }
    },
    clear: (): void => held.clear(),
  }
}
export type Quotes = ReturnType<typeof makeQuotes>
