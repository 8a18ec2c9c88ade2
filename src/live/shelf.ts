// The drafts that an instance knows, by chat and key, and which of its sockets write which: one at a time each. In memory only;
// what is told and saved of them is drafts.ts's business.
import type { DraftName } from './slices.ts'
import type { Receiver } from './hub.ts'

export type DraftWriter = { push(frame: string): boolean }
export type Stored = DraftName & { generation: number; text: string }

export type Draft = Stored & {
  /** the socket that writes it, if it is one of this instance's and none has taken it over */
  writer: DraftWriter | undefined
  /** up to where it was handed on, and saved, by its writer's instance */
  sent: number
  saved: number
  savedAt: number
  /** when it last grew (performance.now) */
  touched: number
  behind: Map<Receiver, number>
}

// What a socket lost and is not told yet: more than it may write at a time.
const mostOvertaken = 1000

export const nameOf = ({ topic, key }: DraftName): string => `${topic}\n${key}`

export const makeDraft = (stored: Stored, writer?: DraftWriter): Draft => ({
  ...stored,
  writer,
  sent: stored.text.length,
  saved: stored.text.length,
  // Saved with its first slice: until then nobody else knows where it stands.
  savedAt: 0,
  touched: performance.now(),
  behind: new Map(),
})

/** `onWritten`: a draft has a writer here from now on, or none any more; `onGone`: one is forgotten. */
export const makeShelf = (options: {
  onWritten: (draft: Draft, here: boolean) => void
  onGone: (draft: Draft) => void
}) => {
  const chats = new Map<string, Map<string, Draft>>()
  const written = new Map<DraftWriter, Set<Draft>>()
  // Drafts that sockets lost to others, until they are told.
  const overtaken = new WeakMap<DraftWriter, Set<string>>()

  const find = ({ topic, key }: DraftName): Draft | undefined => chats.get(topic)?.get(key)

  /** Nobody here writes it any more. */
  const lose = (draft: Draft): void => {
    const { writer } = draft
    if (!writer) return
    const own = written.get(writer)
    if (own?.delete(draft) && own.size === 0) written.delete(writer)
    draft.writer = undefined
    options.onWritten(draft, false)
  }
  const forget = (draft: Draft): void => {
    lose(draft)
    options.onGone(draft)
    const chat = chats.get(draft.topic)
    if (chat?.get(draft.key) !== draft) return
    chat.delete(draft.key)
    if (chat.size === 0) chats.delete(draft.topic)
  }

  return {
    find,
    keep(draft: Draft): void {
      const chat = chats.get(draft.topic)
      if (chat) chat.set(draft.key, draft)
      else chats.set(draft.topic, new Map([[draft.key, draft]]))
      const { writer } = draft
      if (!writer || written.get(writer)?.has(draft)) return
      overtaken.get(writer)?.delete(nameOf(draft))
      written.set(writer, (written.get(writer) ?? new Set()).add(draft))
      options.onWritten(draft, true)
    },
    lose,
    forget,
    /** Somebody else writes it from now on. */
    overtake(draft: Draft): void {
      const { writer } = draft
      forget(draft)
      if (!writer) return
      const names = overtaken.get(writer) ?? new Set()
      if (names.size >= mostOvertaken) names.clear()
      overtaken.set(writer, names.add(nameOf(draft)))
    },
    /** Whether a socket's draft was taken over by another, of which it is told once. */
    wasOvertaken: (writer: DraftWriter, name: DraftName): boolean =>
      overtaken.get(writer)?.delete(nameOf(name)) === true,
    of: (topic: string): Draft[] => [...(chats.get(topic)?.values() ?? [])],
    all: (): Draft[] => [...chats.values()].flatMap((chat) => [...chat.values()]),
    by: (writer: DraftWriter): Draft[] => [...(written.get(writer) ?? [])],
    count: (writer: DraftWriter): number => written.get(writer)?.size ?? 0,
    written: (): Draft[] => [...written.values()].flatMap((own) => [...own]),
  }
}
