// The state of one chat: its pages, followed live without a gap; the read position; and the user's outgoing messages.
import { batch, signal } from '@preact/signals'
import {
  DeckError,
  type ChatEvent,
  type ChatSignal,
  type CodeBlock,
  type Deck,
  type Message,
  type Question,
} from '../../client/index.ts'
import { makeActivity } from './activity.ts'
import type { Citizens } from './citizens.ts'
import type { Missions } from './missions.ts'
import { makeOutgoing } from './outgoing.ts'
import { makeFailure, persist } from './online.ts'
import { makePageLoader } from './page-loader.ts'
import { redact } from '../redact.ts'
import { makePages, pageSize } from './pages.ts'
import { makeQuestions } from './questions.ts'
import { makeQuotes } from './quotes.ts'

const newKey = (): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('')

export const makeChatState = (
  deck: Deck,
  {
    sub,
    mission,
    citizen,
    missions,
    citizens,
  }: { sub: string; mission: string; citizen: string; missions: Missions; citizens: Citizens },
) => {
  const client = deck.chat(mission, citizen)
  const ending = new AbortController()
  const { signal: ended } = ending
  const pages = makePages()
  const outgoing = makeOutgoing(sub, `${mission}/${citizen}`)

  /** changes with the pages */
  const version = signal(0)
  const status = signal<'loading' | 'ready' | 'gone'>('loading')
  const failure = makeFailure(deck, ended)
  const activity = makeActivity()
  /** the first unread message when the chat was opened, which is marked as new; 0: no unread message */
  const firstNew = signal(0)
  const arrived = signal<Message | undefined>(undefined)
  /** the question that was last taken or ended */
  const moved = signal<Question | undefined>(undefined)
  let readUpTo = missions.chat(mission, citizen)?.read ?? 0
  /** the first unread message of others; 0: no unread message */
  let unread = 0
  const changed = (): void => void version.value++

  const fail = (error: unknown): void => {
    if (error instanceof DeckError && (error.code === 'not_found' || error.code === 'forbidden')) status.value = 'gone'
    else failure.set(error)
  }

  const load = makePageLoader({ deck, client, pages, ended, changed, fail })
  const questions = makeQuestions({ deck, client, pages, ended, onListening: (on) => citizens.note(citizen, on) })
  const quotes = makeQuotes(deck, client, pages, ended)

  const take = (event: ChatEvent | ChatSignal): void => {
    switch (event.event) {
      case 'message.created': {
        pages.add(event.data)
        outgoing.remove(event.data.author === sub ? event.data.key : null)
        activity.end(event.data)
        questions.arrived(event.data)
        arrived.value = event.data
        if (unread === 0 && isUnread(event.data)) {
          unread = event.seq
          // If the page has no focus, the line above the first new message is shown.
          if (!document.hasFocus()) firstNew.value = unread
        }
        return changed()
      }
      case 'message.redacted':
        pages.change(event.data.seq, event.seq, redact(event.data))
        quotes.redact(event.data.id)
        return changed()
      case 'chat.cleared':
        unread = firstNew.value = 0
        pages.clear(event.seq, event.seq)
        questions.clear()
        quotes.clear()
        return changed()
      case 'reset':
        readUpTo = 0
        return void restart()
      case 'read':
        return moveRead(event.seq)
      case 'question':
        if (questions.take(event) && event.state !== 'waiting') {
          activity.dropStopped()
          moved.value = event
        }
        return
      case 'presence':
        return
      default:
        activity.take(event)
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

  // Reads the newest page, and follows from there. After a change of epoch the chat is read again.
  let following = new AbortController()
  let broken = false
  const restart = async (): Promise<void> => {
    following.abort()
    following = new AbortController()
    broken = false
    failure.clear()
    const signal = AbortSignal.any([ended, following.signal])
    try {
      // Returns the read position of a chat that is not in the list.
      const marks = async () =>
        (await persist(deck, signal, (signal) => deck.mission(mission).channels({ signal }))).find(
          (one) => one.citizen === citizen,
        )
      const [{ messages, last_seq, epoch, has_more }, mark] = await Promise.all([
        persist(deck, signal, (signal) => client.history({ limit: 2 * pageSize, signal })),
        missions.chat(mission, citizen) ? undefined : marks(),
      ])
      const known = missions.chat(mission, citizen)
      batch(() => {
        questions.clear()
        quotes.clear()
        pages.clear(0, last_seq)
        const from = messages[0]?.seq ?? last_seq + 1
        // The result may begin in the middle of a page: only whole pages are known.
        const whole = has_more ? Math.ceil((from - 1) / pageSize) * pageSize : from - 1
        if (!has_more) pages.moveFloor(whole)
        if (last_seq > whole) pages.put(whole, last_seq, messages, last_seq)
        readUpTo = Math.max(readUpTo, known?.read ?? mark?.read_seq ?? 0)
        // Messages that arrived since the count are in this result, or begin right after the count.
        const counted = Math.max(readUpTo, known?.head ?? 0)
        const since =
          from <= counted + 1 || !has_more
            ? messages.find((one) => one.seq > counted && isUnread(one))?.seq
            : counted + 1
        unread = known && known.first > readUpTo ? known.first : (since ?? 0)
        activity.clear()
        status.value = 'ready'
        changed()
      })
      missions.shown()
      const feed = client.follow({ after: last_seq, epoch, signals: true, questions: true, signal })
      questions.follow(feed.ready)
      for await (const event of feed) batch(() => take(event))
    } catch (error) {
      if (signal.aborted) return
      broken = true
      fail(error)
    }
  }

  const deliver = ({ key, text, code_blocks }: { key: string; text: string; code_blocks?: CodeBlock[] }): void => {
    outgoing.change(key, { state: 'pending' })
    client.send(text, { key, ...(code_blocks ? { code_blocks } : {}), signal: ended }).then(
      ({ seq }) => (pages.head >= seq ? outgoing.remove(key) : outgoing.change(key, { state: 'stored' })),
      (error: unknown) => {
        // The message is kept when the user leaves the chat, and is sent again under the same key.
        if (ended.aborted || (error instanceof DeckError && error.code === 'closed')) return
        outgoing.change(key, { state: 'failed', why: error instanceof DeckError ? error.detail : String(error) })
      },
    )
  }

  // Reads that failed while the server was away are repeated.
  let lost = false
  const forget = deck.on('state', (state) => {
    if (state === 'waiting') lost = true
    if (state !== 'open') return
    if (broken) void restart()
    else {
      if (lost) questions.againSoon()
      lost = false
      changed()
    }
  })
  ended.addEventListener('abort', forget)

  void restart()
  for (const entry of outgoing.list.peek()) if (entry.state === 'pending') deliver(entry)

  return {
    mission,
    citizen,
    client,
    pages,
    version,
    status,
    failure: failure.text,
    again: (): void => void restart(),
    drafts: activity.drafts,
    typing: activity.typing,
    firstNew,
    arrived,
    moved,
    outgoing,
    questions,
    quotes,
    /** Loads the missing pages of a range, and what became of their questions. */
    ensure(from: number, to: number): void {
      load(from, to)
      questions.ensure(from, to)
    },
    /** Call when the chat is shown. Returns the seq of the first unread message, or 0. */
    open: (): number => (firstNew.value = unread),
    /** Marks everything up to a seq as read. */
    read(seq: number): void {
      if (seq <= readUpTo) return
      moveRead(seq)
      missions.read(mission, citizen, seq)
      client.read(seq, { signal: ended }).then(
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
    /** Lets a failed question wait again, or cancels one that is not answered yet. */
    async decide(id: string, what: 'retry' | 'cancel'): Promise<void> {
      questions.set(await client[what === 'retry' ? 'retry' : 'cancelQuestion'](id, { signal: ended }))
    },
    cancel: (key: string): Promise<void> => client.cancel(key, { signal: ended }),
    close: (): void => ending.abort(),
  }
}
export type ChatState = ReturnType<typeof makeChatState>
