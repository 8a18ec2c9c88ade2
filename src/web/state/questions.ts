// What became of a chat's questions: read for the pages that are shown, then kept up to date by signals. Signals may be lost, so after a
// reconnect the shown pages are read again.
import { batch, signal, type Signal } from '@preact/signals'
import type { Chat, ChatSignal, Deck, Message, Question } from '../../client/index.ts'
import { boundServerTime } from '../server-time.ts'
import { persist } from './online.ts'
import type { Pages } from './pages.ts'

/** Questions that are held; and questions in a response. */
const [most, perRequest] = [2000, 500]
/** Milliseconds that a signal about a new message may take. */
const patience = 1500

type Options = {
  deck: Deck
  client: Chat
  pages: Pages
  ended: AbortSignal
  onListening(listening: boolean): void
}
type Held = { seq: number; state: Signal<Question | undefined> }

export const makeQuestions = ({ deck, client, pages, ended, onListening }: Options) => {
  const held = new Map<string, Held>()
  /** pages whose questions were requested */
  const asked = new Set<number>()
  /** for each request under way, the questions that a signal reported meanwhile */
  const loading = new Set<Set<string>>()
  let shown = { from: 0, to: -1 }
  /** when signals arrive: a change after a read is then not missed */
  let followed: Promise<unknown> = Promise.resolve()
  let timer: ReturnType<typeof setTimeout> | undefined
  ended.addEventListener('abort', () => clearTimeout(timer))

  const of = (id: string, seq: number): Held['state'] => {
    let found = held.get(id)
    if (!found) {
      found = { seq, state: signal(undefined) }
      held.set(id, found)
      if (held.size > most) for (const [old, { seq }] of held) if (!pages.find(seq)) held.delete(old)
    }
    return found.state
  }
  const set = (question: Question): void => {
    if (question.state === 'working') boundServerTime(question.since, question.until)
    of(question.id, question.seq).value = question
  }

  const load = async (from: number, to: number, users: number): Promise<void> => {
    const [after, before] = [pages.start(from), pages.end(to) + 1]
    const fresh = new Set<string>()
    loading.add(fresh)
    try {
      await followed
      const { questions, listening } = await persist(deck, ended, (signal) =>
        client.questions({ before, limit: Math.min(users, perRequest), signal }),
      )
      batch(() => {
        onListening(listening)
        const found = new Map(questions.map((question) => [question.id, question]))
        for (const [id, { seq, state }] of held)
          if (seq > after && seq < before && !fresh.has(id) && !found.has(id)) state.value = undefined
        for (const question of questions) if (!fresh.has(question.id)) set(question)
      })
    } catch {
      // The messages are shown without their states.
    } finally {
      loading.delete(fresh)
    }
  }

  /** Reads the questions of the loaded pages of a range. Neighbouring pages share a request; pages without user messages need none. */
  const ensure = (from: number, to: number): void => {
    shown = { from: Math.max(from, pages.first()), to: Math.min(to, pages.last()) }
    for (const page of asked) if (!pages.get(page).known) asked.delete(page)
    let begin: number | undefined
    let users = 0
    for (let page = shown.from; page <= shown.to + 1; page++) {
      const { messages, known } = pages.get(page)
      const count = messages.filter(({ sender }) => sender === 'user').length
      if (page <= shown.to && known && count > 0 && !asked.has(page)) {
        asked.add(page)
        begin ??= page
        users += count
      } else if (begin !== undefined) {
        void load(begin, page - 1, users)
        begin = undefined
        users = 0
      }
    }
  }
  const again = (): void => {
    asked.clear()
    ensure(shown.from, shown.to)
  }
  const againSoon = (): void => void (timer ??= setTimeout(() => ((timer = undefined), again()), patience))

  return {
    ensure,
    /** The state of a message; undefined if it is no question, or not known yet. */
    of: ({ id, seq }: Message): Question | undefined => of(id, seq).value,
    set,
    /** Takes a signal. Returns whether the question's state or attempt has changed. */
    take({
      listening,
      id,
      seq,
      state,
      attempt,
      since,
      until,
      answer,
    }: Extract<ChatSignal, { event: 'question' }>): boolean {
      for (const fresh of loading) fresh.add(id)
      onListening(listening)
      const old = of(id, seq).peek()
      set({ id, seq, state, attempt, since, until, answer })
      return old?.state !== state || old.attempt !== attempt
    },
    /** Takes a new message. A lost signal about it, or a question that it ended without naming it, is read again. */
    arrived({ id, seq, sender, in_reply_to, created_at }: Message): void {
      boundServerTime(created_at)
      // Its page is complete: the message has its own signal.
      const page = pages.pageOf(seq)
      const { known, messages } = pages.get(page)
      if (known && !messages.some((one) => one.seq < seq && one.sender === 'user')) asked.add(page)
      const isOpen = ({ state }: Held): boolean => state.peek()?.state === 'waiting'
      if (sender === 'user')
        setTimeout(() => void (ended.aborted || held.get(id)?.state.peek() || againSoon()), patience)
      else if (in_reply_to === null && timer === undefined && [...held.values()].some(isOpen)) againSoon()
    },
    /** Call when the chat is followed anew. */
    follow(ready: Promise<unknown>): void {
      followed = ready
    },
    /** The connection was lost, and is back. */
    againSoon,
    clear(): void {
      held.clear()
      asked.clear()
    },
  }
}
export type Questions = ReturnType<typeof makeQuestions>
