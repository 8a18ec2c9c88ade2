// The registry of citizens, and for which of them something works. It is read once, and then every 30 s while the page is visible.
// In between, questions report whether their citizen is listening.
import { batch, signal } from '@preact/signals'
import type { Citizen, Deck } from '../../client/index.ts'
import { ago } from '../format.ts'

/** Milliseconds between two reads. */
const rest = 30_000

/** `listening`: undefined if it is not known. `seen`: when something last worked for it; null: never; undefined: not known. */
export type Contact = { listening: boolean | undefined; seen: string | null | undefined }

/** A citizen's connection in words; '' if it is not known. */
export const contactText = ({ listening, seen }: Contact): string =>
  listening === undefined
    ? ''
    : listening
      ? 'listening'
      : seen
        ? `last seen ${ago(seen)}`
        : seen === null
          ? 'never connected'
          : 'not connected'

export const makeCitizens = (deck: Deck, ended: AbortSignal) => {
  /** undefined: not read yet */
  const list = signal<Citizen[] | undefined>(undefined)
  const contacts = signal<ReadonlyMap<string, Contact>>(new Map())
  let asked = -Infinity
  let timer: ReturnType<typeof setTimeout> | undefined

  const set = (changes: [string, Contact][]): void => {
    contacts.value = new Map([...contacts.peek(), ...changes])
  }
  const read = async (): Promise<void> => {
    asked = Date.now()
    try {
      const citizens = await deck.citizens({ signal: ended })
      batch(() => {
        list.value = citizens
        set(citizens.map(({ name, listening, last_seen }) => [name, { listening, seen: last_seen }]))
      })
    } catch {
      // The page works without the registry: chats have their citizens.
      list.value ??= []
    }
    plan()
  }
  const plan = (): void => {
    clearTimeout(timer)
    if (ended.aborted || document.visibilityState !== 'visible') return
    timer = setTimeout(() => void read(), Math.max(0, asked + rest - Date.now()))
  }
  document.addEventListener('visibilitychange', plan, { signal: ended })
  ended.addEventListener('abort', () => clearTimeout(timer))
  void read()

  return {
    list,
    contact: (name: string): Contact => contacts.value.get(name) ?? { listening: undefined, seen: undefined },
    /** The citizen to show if none is named. */
    usual: (): string => {
      const names = (list.value ?? []).map(({ name }) => name)
      return names.includes('rafael') ? 'rafael' : (names[0] ?? 'rafael')
    },
    /** Takes what a response or a signal says about a citizen. */
    note(name: string, listening: boolean): void {
      const old = contacts.peek().get(name)
      if (old?.listening === listening) return
      const seen = listening || old?.listening ? new Date().toISOString() : old?.seen
      set([[name, { listening, seen }]])
    },
  }
}
export type Citizens = ReturnType<typeof makeCitizens>
