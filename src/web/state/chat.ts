// One chat as it is shown: its pages, loaded where one looks and followed live without a hole; who is there, who types, replies as they
// are written; what oneself sends. Reads ahead of nobody: what is far from the window is let go of and read again.
import { batch, signal } from '@preact/signals'
import {
  DeckError,
  type Chat,
  type ChatEvent,
  type ChatSignal,
  type CodeBlock,
  type Deck,
  type Message,
  type Present,
} from '../../client/index.ts'
import type { Missions } from './missions.ts'
import { makeOutgoing } from './outgoing.ts'
import { makeFailure, persist } from './online.ts'
import { makePages, pageSize } from './pages.ts'

export type Draft = { key: string; citizen: string; text: string }

const newKey = (): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('')

export const makeRoom = (
  deck: Deck,
  { sub, mission, citizen, missions }: { sub: string; mission: string; citizen: string; missions: Missions },
) => {
  const chat: Chat = deck.chat(mission, citizen)
  const ending = new AbortController()
  const { signal: ended } = ending
  const pages = makePages()
  const outgoing = makeOutgoing(sub, `${mission}/${citizen}`)

  /** changes with the pages */
  const version = signal(0)
  const status = signal<'loading' | 'ready' | 'gone'>('loading')
  const failure = makeFailure(deck, ended)
  const drafts = signal<Draft[]>([])
  const typing = signal<string[]>([])
  const present = signal<Present[]>([])
  /** the first unread message when the chat was opened, which is marked as new; 0: no unread message */
  const firstNew = signal(0)
  const arrived = signal<Message | undefined>(undefined)
  let readUpTo = missions.chat(mission, citizen)?.read ?? 0
  /** the first unread message of others; 0: no unread message */
  let unread = 0
  const changed = (): void => void version.value++

  // Pages on their way; a page is asked for once at a time.
  const loading = new Set<number>()

  const load = async (from: number, to: number): Promise<void> => {
    const after = pages.start(from)
    const before = pages.end(to) + 1
    for (let page = from; page <= to; page++) loading.add(page)
    try {
      const limit = (to - from + 1) * pageSize
      const found = await persist(deck, ended, (signal) => chat.history({ after, before, limit, signal }))
      if (found.messages.length === 0 && after > pages.floor) {
        // A hole, or the beginning: what is older is asked for, not waded through.
        const older = await persist(deck, ended, (signal) => chat.history({ before: after + 1, limit: 1, signal }))
        const next = older.messages[0]?.seq
        if (next === undefined) pages.moveFloor(before - 1)
        else pages.put((pages.pageOf(next) + 1) * pageSize, before - 1, [], found.last_seq)
      } else pages.put(after, before - 1, found.messages, found.last_seq)
    } finally {
      for (let page = from; page <= to; page++) loading.delete(page)
    }
    changed()
  }

  /** Sees to it that pages are there; groups of four a request. */
  const ensure = (from: number, to: number): void => {
    pages.trim(Math.round((from + to) / 2))
    const missing: number[] = []
    for (let page = Math.max(from, pages.first()); page <= Math.min(to, pages.last()); page++)
      if (!pages.get(page).known && !loading.has(page)) missing.push(page)
    while (missing.length > 0) {
      const begin = missing.shift() as number
      let end = begin
      while (missing[0] === end + 1 && end - begin < 3) end = missing.shift() as number
      load(begin, end).catch(fail)
    }
  }

  const fail = (error: unknown): void => {
    if (error instanceof DeckError && (error.code === 'not_found' || error.code === 'forbidden')) status.value = 'gone'
    else failure.set(error)
  }

  const take = (event: ChatEvent | ChatSignal): void => {
    switch (event.event) {
      case 'message.created': {
        pages.add(event.data)
        outgoing.remove(event.data.author === sub ? event.data.key : null)
        drop(event.data.key)
        stopTyping(event.data.author)
        arrived.value = event.data
        if (unread === 0 && isUnread(event.data)) {
          unread = event.seq
          // Who is elsewhere finds a line where it went on.
          if (!document.hasFocus()) firstNew.value = unread
        }
        return changed()
      }
      case 'chat.cleared':
        unread = firstNew.value = 0
        pages.clear(event.seq, event.seq)
        return changed()
      case 'reset':
        readUpTo = 0
        return void restart()
      case 'draft': {
        const { key, citizen, text } = event
        const held = drafts.peek().some((draft) => draft.key === key)
        const draft = { key, citizen, text }
        drafts.value = held ? drafts.peek().map((old) => (old.key === key ? draft : old)) : [...drafts.peek(), draft]
        return
      }
      case 'aborted':
        return drop(event.key)
      case 'typing':
        if (event.on && !typing.peek().includes(event.sub)) typing.value = [...typing.peek(), event.sub]
        else if (!event.on) stopTyping(event.sub)
        return
      case 'read':
        return moveRead(event.seq)
      case 'presence': {
        const gone = new Set([...event.left, ...event.joined].map((one) => `${one.role} ${one.sub}`))
        const others = present.peek().filter((one) => !gone.has(`${one.role} ${one.sub}`))
        present.value = event.subs ?? [...others, ...event.joined]
      }
    }
  }
  const isUnread = ({ seq, author }: Message): boolean => seq > readUpTo && author !== sub
  const moveRead = (seq: number): void => {
    if (seq <= readUpTo) return
    readUpTo = seq
    if (unread > seq) return
    const page = pages.pageOf(seq + 1)
    const next = [page, page + 1].flatMap((n) => pages.get(n).messages).find(isUnread)
    unread = unread === 0 || seq >= pages.head ? 0 : (next?.seq ?? seq + 1)
  }
  const drop = (key: string | null): void => {
    if (drafts.peek().some((draft) => draft.key === key))
      drafts.value = drafts.peek().filter((draft) => draft.key !== key)
  }
  const stopTyping = (who: string | null): void => {
    if (who !== null && typing.peek().includes(who)) typing.value = typing.peek().filter((one) => one !== who)
  }

  // The newest page, and from there on live. Another epoch begins anew.
  let following = new AbortController()
  let broken = false
  const restart = async (): Promise<void> => {
    following.abort()
    following = new AbortController()
    broken = false
    failure.clear()
    const signal = AbortSignal.any([ended, following.signal])
    try {
      // A chat that is not among those that are listed.
      const marks = async () =>
        (await persist(deck, signal, (signal) => deck.mission(mission).channels({ signal }))).find(
          (one) => one.citizen === citizen,
        )
      const [{ messages, last_seq, epoch, has_more }, mark] = await Promise.all([
        persist(deck, signal, (signal) => chat.history({ limit: 2 * pageSize, signal })),
        missions.chat(mission, citizen) ? undefined : marks(),
      ])
      const known = missions.chat(mission, citizen)
      batch(() => {
        pages.clear(0, last_seq)
        const from = messages[0]?.seq ?? last_seq + 1
        // What was asked for may begin in the middle of a page: only whole pages are known.
        const whole = has_more ? Math.ceil((from - 1) / pageSize) * pageSize : from - 1
        if (!has_more) pages.moveFloor(whole)
        if (last_seq > whole) pages.put(whole, last_seq, messages, last_seq)
        readUpTo = Math.max(readUpTo, known?.read ?? mark?.read_seq ?? 0)
        // What came since it was counted is here, or begins behind it.
        const counted = Math.max(readUpTo, known?.head ?? 0)
        const since =
          from <= counted + 1 || !has_more
            ? messages.find((one) => one.seq > counted && isUnread(one))?.seq
            : counted + 1
        unread = known && known.first > readUpTo ? known.first : (since ?? 0)
        drafts.value = []
        typing.value = []
        status.value = 'ready'
        changed()
      })
      missions.shown()
      const feed = chat.follow({ after: last_seq, epoch, signals: true, presence: true, signal })
      for await (const event of feed) batch(() => take(event))
    } catch (error) {
      if (signal.aborted) return
      broken = true
      fail(error)
    }
  }

  const deliver = ({ key, text, code_blocks }: { key: string; text: string; code_blocks?: CodeBlock[] }): void => {
    outgoing.change(key, { state: 'pending' })
    chat.send(text, { key, ...(code_blocks ? { code_blocks } : {}), signal: ended }).then(
      ({ seq }) => (pages.head >= seq ? outgoing.remove(key) : outgoing.change(key, { state: 'stored' })),
      (error: unknown) => {
        // Whoever leaves the chat finds it here again, and sends it again under the same key.
        if (ended.aborted || (error instanceof DeckError && error.code === 'closed')) return
        outgoing.change(key, { state: 'failed', why: error instanceof DeckError ? error.detail : String(error) })
      },
    )
  }

  // What could not be read while the server was away is asked for again.
  const forget = deck.on('state', (state) => {
    if (state !== 'open') return
    if (broken) void restart()
    else changed()
  })
  ended.addEventListener('abort', forget)

  void restart()
  for (const entry of outgoing.list.peek()) if (entry.state === 'pending') deliver(entry)

  return {
    mission,
    citizen,
    chat,
    pages,
    version,
    status,
    failure: failure.text,
    again: (): void => void restart(),
    drafts,
    typing,
    present,
    firstNew,
    arrived,
    outgoing,
    ensure,
    /** It is shown: from where on it is new. */
    open: (): number => (firstNew.value = unread),
    /** Tells that everything up to a seq was seen. */
    read(seq: number): void {
      if (seq <= readUpTo) return
      moveRead(seq)
      missions.read(mission, citizen, seq)
      chat.read(seq, { signal: ended }).then(
        () => void (unread > 0 && missions.recount()),
        () => {},
      )
    },
    send(text: string, code_blocks?: CodeBlock[]): void {
      const entry = { key: newKey(), text, at: new Date().toISOString(), ...(code_blocks ? { code_blocks } : {}) }
      outgoing.add({ ...entry, state: 'pending' })
      deliver(entry)
    },
    retry: (key: string): void => {
      const entry = outgoing.list.peek().find((one) => one.key === key)
      if (entry) deliver(entry)
    },
    cancel: (key: string): Promise<void> => chat.cancel(key, { signal: ended }),
    close: (): void => ending.abort(),
  }
}
export type Room = ReturnType<typeof makeRoom>
