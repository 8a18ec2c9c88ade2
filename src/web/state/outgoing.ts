// What one is writing and what is on its way, by chat: kept in the tab, so that a reload or a new sign-in loses neither. A message
// keeps its key until it is stored: sent again, it is still stored once. Belongs to one sub: another's messages are not sent.
import { signal, type Signal } from '@preact/signals'
import type { CodeBlock } from '../../client/index.ts'
import { keep, kept } from './storage.ts'

export type Outgoing = {
  key: string
  text: string
  code_blocks?: CodeBlock[]
  at: string
  /** stored: its event is on the way */
  state: 'pending' | 'stored' | 'failed'
  why?: string
}

/** A file that goes along with what is being written. */
export type Attached = { name: string; language: string | null; code: string; lines: number }

const read = <T>(name: string): T[] => {
  try {
    return JSON.parse(kept(name) ?? '[]') as T[]
  } catch {
    return []
  }
}

export const makeOutgoing = (sub: string, chat: string) => {
  const sends = `deck.sends ${sub} ${chat}`
  const draft = `deck.draft ${sub} ${chat}`
  const attached = `deck.files ${sub} ${chat}`
  const list: Signal<Outgoing[]> = signal(read(sends))
  const files: Signal<Attached[]> = signal(read(attached))
  const set = (next: Outgoing[]): void => {
    list.value = next
    keep(sends, () => {
      const open = next.filter(({ state }) => state !== 'stored')
      return open.length > 0 ? JSON.stringify(open) : null
    })
  }
  const text = signal(kept(draft) ?? '')
  return {
    list,
    add: (entry: Outgoing): void => set([...list.peek(), entry]),
    change: (key: string, more: Partial<Outgoing>): void =>
      set(list.peek().map((entry) => (entry.key === key ? { ...entry, ...more } : entry))),
    remove(key: string | null): void {
      if (list.peek().some((entry) => entry.key === key)) set(list.peek().filter((entry) => entry.key !== key))
    },
    files,
    attach(next: Attached[]): void {
      files.value = next
      keep(attached, () => (next.length > 0 ? JSON.stringify(next) : null))
    },
    text,
    write(value: string): void {
      text.value = value
      keep(draft, () => value)
    },
  }
}
