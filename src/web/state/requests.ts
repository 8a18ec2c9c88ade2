// The requests of one mission, live: all open ones, and the ended ones as far back as the chat is shown. What the user answers, and the
// answers that came too late. A request that ends while the user is at its card is held there, so that nothing disappears under the hands.
import { batch, signal, type Signal } from '@preact/signals'
import { DeckError, type Deck, type Request } from '../../client/index.ts'
import { capital } from '../format.ts'
import { isBefore } from '../timestamps.ts'
import type { Missions } from './missions.ts'
import { persist, wordsOf } from './online.ts'
import { makeRequestRows } from './request-rows.ts'
import { keep, kept } from './storage.ts'

const [perPage, perOlderPage] = [50, 200]
/** Open requests below which more are read. */
const fewOpen = 20

/** A card's state on this page. `held`: the request has ended, and its card stays until it is closed. */
export type CardState = { sending?: true; held?: true; note?: string }
const plain: CardState = {}

/** Says why an answer did not count. */
const tooLate = ({ state, answered_by, citizen }: Request): string =>
  state === 'answered'
    ? `${answered_by ?? 'Somebody'} answered first, so your answer does not count.`
    : state === 'expired'
      ? 'The request expired before your answer arrived.'
      : `${capital(citizen)} withdrew the request before your answer arrived.`

type Options = { sub: string; mission: string; missions: Pick<Missions, 'anyRequests' | 'onRequest'> }

export const makeRequests = (deck: Deck, { sub, mission, missions }: Options) => {
  const ending = new AbortController()
  const { signal: ended } = ending
  const api = deck.requests(mission)
  const rows = makeRequestRows()
  const cards = signal<ReadonlyMap<string, CardState>>(new Map())
  const texts = new Map<string, Signal<string>>()
  /** the cards that have the focus */
  const focused = new Set<string>()
  /** where the read pages end: the next page's cursor, and the creation time of the last request */
  let next: { cursor: string; at: string } | undefined
  let moreOpen = false
  let turn = new AbortController()

  const card = (id: string): CardState => cards.peek().get(id) ?? plain
  const set = (id: string, state: CardState | undefined): void => {
    const map = new Map(cards.peek())
    if (state) map.set(id, state)
    else map.delete(id)
    cards.value = map
  }
  const text = (id: string): Signal<string> => {
    let found = texts.get(id)
    if (!found) texts.set(id, (found = signal(kept(`deck.answer ${sub} ${id}`) ?? '')))
    return found
  }
  const write = (id: string, value: string): void => {
    text(id).value = value
    keep(`deck.answer ${sub} ${id}`, () => value)
  }
  /** Lets go of a card whose request has ended. */
  const release = (id: string): void => {
    if (texts.has(id)) write(id, '')
    texts.delete(id)
    focused.delete(id)
    set(id, undefined)
  }
  const isOpen = ({ state }: Request): boolean => state === 'open'

  const take = (given: readonly Request[]): void =>
    batch(() => {
      const before = new Set(rows.list.peek().flatMap((row) => (isOpen(row) ? [row.id] : [])))
      for (const { id } of rows.take(given).filter((row) => !isOpen(row) && before.has(row.id)))
        if (card(id).sending || focused.has(id) || text(id).peek() !== '')
          set(id, { held: true, ...(card(id).sending ? { sending: true } : {}) })
      if (moreOpen && rows.list.peek().filter(isOpen).length < fewOpen) void readOpen().catch(() => {})
    })

  const read = (options: Parameters<typeof api.list>[0]) => {
    const until = AbortSignal.any([ended, turn.signal])
    return persist(deck, until, async (signal) => {
      const page = await api.list({ ...options, signal })
      signal.throwIfAborted()
      return page
    })
  }
  const readPage = async (limit: number): Promise<boolean> => {
    const page = await read({ limit, ...(next ? { cursor: next.cursor } : {}) })
    const last = page.requests.at(-1)
    next = page.next !== null && last ? { cursor: page.next, at: last.created_at } : undefined
    take(page.requests)
    return next !== undefined
  }
  const readOpen = async (): Promise<void> => {
    moreOpen = false
    const page = await read({ state: 'open', limit: 100 })
    moreOpen = page.next !== null
    take(page.requests)
  }
  const start = async (): Promise<void> => {
    turn.abort()
    turn = new AbortController()
    next = undefined
    if (missions.anyRequests(mission) && (await readPage(perPage))) await readOpen()
  }

  let reading = false
  const forget = missions.onRequest((of, request) => {
    if (of !== mission) return
    if (request) return take([request])
    rows.clear()
    void start().catch(() => {})
  })
  ended.addEventListener('abort', forget)
  void start().catch(() => {})

  return {
    /** all requests that are held, oldest first */
    list: rows.list,
    cards,
    text,
    write,
    /** Reads a request that is not held, such as one of very many. */
    want(id: string): void {
      if (rows.get(id)) return
      api.get(id, { signal: ended }).then(
        (row) => take([row]),
        () => {},
      )
    },
    /** Loads ended requests back to a time. */
    async backTo(at: string): Promise<void> {
      if (reading || !next || !isBefore(at, next.at) || rows.dropped !== '') return
      reading = true
      await readPage(perOlderPage).catch(() => {})
      reading = false
    },
    focus: (id: string, on: boolean): void => void focused[on ? 'add' : 'delete'](id),
    release,
    /** Answers a request. An answer that comes too late shows what became of the request. */
    async answer({ id }: Request, answer: boolean | string): Promise<void> {
      if (card(id).sending) return
      set(id, { sending: true })
      try {
        const row = await api.answer(id, answer, { signal: ended })
        batch(() => {
          take([row])
          release(id)
        })
      } catch (error) {
        if (ended.aborted) return
        let note = `Not sent: ${wordsOf(error)}.`
        if (error instanceof DeckError && error.code === 'conflict') {
          const row = await persist(deck, ended, (signal) => api.get(id, { signal })).catch(() => undefined)
          if (row) {
            take([row])
            // The first attempt of this answer was stored, but its response was lost.
            if (row.answered_by === sub && row.answer === answer) return release(id)
            if (!isOpen(row)) note = tooLate(row)
          }
        }
        const { held } = card(id)
        set(id, { ...(held ? { held } : {}), note })
      }
    },
    close: (): void => ending.abort(),
  }
}
export type Requests = ReturnType<typeof makeRequests>
