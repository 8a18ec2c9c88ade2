// What a row needs from the chat that it is shown in.
import type { Message, Question } from '../../../client/index.ts'
import type { Contact } from '../../state/citizens.ts'
import type { Quote } from '../../state/quotes.ts'

/** The chat that rows are shown in. `quote`: undefined while it is loading, null if the message is gone. */
export type Context = {
  citizen: string
  /** the states of questions; not in the past */
  questions?: {
    of(message: Message): Question | undefined
    contact(): Contact
    /** the title of the open request that a question waits for */
    waitsFor(id: string): string | undefined
    /** undefined: the reader may not retry and cancel questions */
    decide?: (id: string, what: 'retry' | 'cancel') => Promise<void>
  }
  quote(id: string): Quote | null | undefined
  jump(seq: number): void
}
