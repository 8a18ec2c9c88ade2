// The missions that the user may see, live, with their counts of unread messages and questions. One response of the server has the counts of all missions.
import { batch, computed, signal } from '@preact/signals'
import { DeckError, type Deck, type Mission, type MissionChat, type OpenRequests } from '../../client/index.ts'
import type { Citizens } from './citizens.ts'
import { apart, makeMissionChats, type Channel, type MissionChats, type Shared } from './mission-chats.ts'
import { makeFailure, persist } from './online.ts'

/** Missions per page; topics per socket if the server states no limit; and topics reserved for the open mission. */
const [perPage, mostTopics, reserve] = [200, 1000, 100]
/** Milliseconds after which counts are requested again. */
const rest = 1000
/** Whether a mission is unchanged. */
const isSame = (now: Mission, old: Mission): boolean =>
  (Object.keys(now) as (keyof Mission)[]).every((name) => JSON.stringify(now[name]) === JSON.stringify(old[name]))
/** Resolves when the page has nothing more urgent to do. */
const idle = (): Promise<unknown> =>
  new Promise((done) => ('requestIdleCallback' in globalThis ? requestIdleCallback(done) : setTimeout(done, 50)))

export type Counts = Pick<Channel, 'unread' | 'waiting' | 'failed' | 'requests'>
const sum = (all: Counts[]): Counts => {
  const total = { unread: 0, waiting: 0, failed: 0, requests: 0 }
  for (const { unread, waiting, failed, requests } of all) {
    total.unread += unread
    total.waiting += waiting
    total.failed += failed
    total.requests += requests
  }
  return total
}

type Listed = Mission & { chats?: MissionChat[]; requests?: OpenRequests }
type OnRequest = Shared['onRequest']

/** `answers`: whether the user may answer requests. */
export const makeMissions = (deck: Deck, { sub, answers }: { sub: string; answers: boolean }, citizens: Citizens) => {
  const ending = new AbortController()
  const { signal: ended } = ending
  const list = signal<Mission[] | undefined>(undefined)
  const chatsOf = signal(new Map<string, MissionChats>())
  const failure = makeFailure(deck, ended)
  let clock = 0
  /** when questions may be counted again */
  let notBefore = 0
  let timer: ReturnType<typeof setTimeout> | undefined
  const requested = new Set<OnRequest>()
  const shared: Shared = {
    deck,
    sub,
    answers,
    citizens,
    ended,
    tick: () => ++clock,
    onRequest(mission, request) {
      for (const each of requested) each(mission, request)
    },
    recount(apart = 0) {
      // What is planned is soon enough for a count that is not urgent.
      if (timer !== undefined && apart > 0) return
      clearTimeout(timer)
      const at = Math.max(Date.now() + rest, apart > 0 ? notBefore : 0)
      if (apart > 0) notBefore = at + apart
      timer = setTimeout(() => {
        timer = undefined
        void load().catch(failure.set)
      }, at - Date.now())
    },
  }
  ended.addEventListener('abort', () => clearTimeout(timer))

  const load = async (): Promise<void> => {
    const asked = clock
    const found: Listed[] = []
    let cursor: string | undefined
    do {
      const where = cursor === undefined ? {} : { cursor }
      const page = await persist(deck, ended, (signal) =>
        deck.missions.list({ limit: perPage, chats: true, ...where, signal }),
      )
      found.push(...page.missions)
      cursor = page.next ?? undefined
    } while (cursor !== undefined && found.length < 2000)
    batch(() => {
      failure.clear()
      set(found)
      let stale = false
      for (const { id, chats = [], requests = { last_seq: 0, open: [] } } of found)
        stale = chatsOf.peek().get(id)?.put(chats, requests, asked) || stale
      if (stale) shared.recount()
    })
    void followAll()
  }

  const set = (missions: Mission[]): void => {
    const sorted = missions.toSorted((a, b) => a.number - b.number)
    const next = new Map<string, MissionChats>()
    for (const { id } of sorted) next.set(id, chatsOf.peek().get(id) ?? makeMissionChats(shared, id))
    for (const [id, chats] of chatsOf.peek()) if (!next.has(id)) chats.close()
    batch(() => {
      list.value = sorted
      chatsOf.value = next
    })
  }

  // Chats and requests of all missions that are not complete are followed, newest mission first, up to the socket's limit; but not before the open
  // chat is loaded.
  let shown = false
  let following = false
  const followAll = async (): Promise<void> => {
    if (!shown || following) return
    following = true
    let left = (deck.welcome?.limits['topics'] ?? mostTopics) - reserve
    for (const { id, status } of (list.peek() ?? []).toReversed()) {
      if (status === 'complete') continue
      await idle()
      left -= chatsOf.peek().get(id)?.follow() ?? 0
      if (left <= 0 || ended.aborted) break
    }
    following = false
  }
  // Chats that are not followed are counted again when the page becomes visible.
  const onVisible = (): void => {
    if (document.visibilityState === 'visible' && list.peek()) shared.recount()
  }
  document.addEventListener('visibilitychange', onVisible, { signal: ended })

  // Changed missions are read one at a time, and each once, even if it changed several times meanwhile.
  const changed = new Set<string>()
  let reading = false
  const readChanged = async (): Promise<void> => {
    if (reading) return
    reading = true
    for (const id of changed) {
      changed.delete(id)
      const mission = await persist(deck, ended, (signal) => deck.mission(id).get({ signal })).catch(
        (error: unknown) => (error instanceof DeckError && error.code === 'not_found' ? null : undefined),
      )
      if (mission === undefined) continue
      const known = list.peek() ?? []
      const others = known.filter((mission) => mission.id !== id)
      // A new mission may have chats; a mission that was notified but is unchanged has a new chat.
      const old = known.find((mission) => mission.id === id)
      if (mission && (!old || isSame(mission, old))) shared.recount()
      set(mission ? [...others, mission] : others)
    }
    reading = false
  }

  const run = async (): Promise<void> => {
    const feed = deck.missions.follow({ chats: true, signal: ended })
    void feed.ready.then(load).catch(failure.set)
    for await (const event of feed) {
      if (event.event === 'reset') {
        for (const chats of chatsOf.peek().values()) chats.forget()
        await load().catch(failure.set)
        shared.recount(apart)
      } else {
        changed.add(event.mission)
        void readChanged()
      }
    }
  }
  run().catch(failure.set)

  const forget = citizens.list.subscribe(() => {
    for (const chats of chatsOf.peek().values()) chats.arrange()
  })
  ended.addEventListener('abort', forget)

  const channels = (id: string): Channel[] => chatsOf.value.get(id)?.channels.value ?? []
  /** The sums of a mission's chats. */
  const counts = (id: string): Counts => sum(channels(id))
  return {
    list,
    failure: failure.text,
    counts,
    channels,
    /** Call when a chat is shown: less urgent work may begin. */
    shown(): void {
      shown = true
      void followAll()
    },
    /** Whether a mission has, or may have, requests. */
    anyRequests: (id: string): boolean => chatsOf.peek().get(id)?.anyRequests() ?? false,
    /** Calls back for each request of a followed mission that was made or has ended. Returns a function that ends this. */
    onRequest(listener: OnRequest): () => void {
      requested.add(listener)
      return () => void requested.delete(listener)
    },
    /** Follows a mission's chats and requests. */
    attend: (id: string): void => void chatsOf.peek().get(id)?.follow(),
    /** The state of a chat; undefined if it is not known yet. */
    chat: (id: string, citizen: string): Channel | undefined =>
      chatsOf
        .peek()
        .get(id)
        ?.channels.peek()
        .find((one) => one.citizen === citizen),
    read: (id: string, citizen: string, seq: number): void => chatsOf.peek().get(id)?.read(citizen, seq),
    recount: shared.recount,
    total: computed(() => sum([...chatsOf.value.keys()].map(counts))),
    close: (): void => ending.abort(),
  }
}
export type Missions = ReturnType<typeof makeMissions>
