// The missions that one may see, live, and what is unread in each: one answer of the server has it for all of them, and what happens in
// their chats keeps it true. A count that can't be kept so (a chat that was read in part, or elsewhere) is asked for again.
import { batch, computed, signal, type Signal } from '@preact/signals'
import { DeckError, type Deck, type Mission, type MissionChat, type Present } from '../../client/index.ts'
import { makeFailure, persist } from './online.ts'

export const team = [
  { name: 'emma', role: 'Scope' },
  { name: 'inna', role: 'Specification' },
  { name: 'rafael', role: 'Code' },
  { name: 'sofia', role: 'Quality' },
  { name: 'maya', role: 'Delivery' },
] as const

export type Channel = {
  citizen: string
  /** unread messages of others, and the seq of the first (0: no unread message) */
  unread: number
  first: number
  head: number
  read: number
  online: boolean
  working: boolean
}
export const nobody: Omit<Channel, 'citizen'> = { unread: 0, first: 0, head: 0, read: 0, online: false, working: false }
type Watch = {
  channels: Signal<Channel[]>
  /** Takes what the server counted; what changed here since `asked` stays. -> whether anything did */
  put(chats: MissionChat[], asked: number): boolean
  read(citizen: string, seq: number): void
  /** Follows its chats; -> how many they are. */
  follow(): number
  /** Asks who is there, until it is left. */
  attend(): void
  leave(): void
  close(): void
}
/** What the watches have in common: whose they are, what changed when, and how counts are asked for again. */
type Shared = { deck: Deck; sub: string; ended: AbortSignal; tick(): number; recount(): void }

/** Missions a page, chats that are followed at most without the server's word, and those that are left to what is on show. */
const [perPage, mostTopics, reserve] = [200, 1000, 100]
/** ms after which counts are asked for again */
const rest = 1000
/** Whether a mission is as it was. */
const isSame = (now: Mission, old: Mission): boolean =>
  (Object.keys(now) as (keyof Mission)[]).every((name) => JSON.stringify(now[name]) === JSON.stringify(old[name]))
/** Lets the page do what is more urgent. */
const idle = (): Promise<unknown> =>
  new Promise((done) => ('requestIdleCallback' in globalThis ? requestIdleCallback(done) : setTimeout(done, 50)))

export const makeMissions = (deck: Deck, sub: string) => {
  const ending = new AbortController()
  const { signal: ended } = ending
  const list = signal<Mission[] | undefined>(undefined)
  const watches = signal(new Map<string, Watch>())
  const failure = makeFailure(deck, ended)
  let clock = 0
  let timer: ReturnType<typeof setTimeout> | undefined
  const shared: Shared = {
    deck,
    sub,
    ended,
    tick: () => ++clock,
    recount() {
      clearTimeout(timer)
      timer = setTimeout(() => void load().catch(failure.set), rest)
    },
  }
  ended.addEventListener('abort', () => clearTimeout(timer))

  const load = async (): Promise<void> => {
    const asked = clock
    const found: (Mission & { chats?: MissionChat[] })[] = []
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
      for (const { id, chats = [] } of found) stale = watches.peek().get(id)?.put(chats, asked) || stale
      if (stale) shared.recount()
    })
    void followAll()
  }

  const set = (missions: Mission[]): void => {
    const sorted = missions.toSorted((a, b) => a.number - b.number)
    const next = new Map<string, Watch>()
    for (const { id } of sorted) next.set(id, watches.peek().get(id) ?? makeWatch(shared, id))
    for (const [id, watch] of watches.peek()) if (!next.has(id)) watch.close()
    batch(() => {
      list.value = sorted
      watches.value = next
    })
  }

  // The chats of all missions that are not complete are followed, the newest first, as many as a socket takes; but not before the chat
  // on show is there.
  let shown = false
  let following = false
  const followAll = async (): Promise<void> => {
    if (!shown || following) return
    following = true
    let left = (deck.welcome?.limits['topics'] ?? mostTopics) - reserve
    for (const { id, status } of (list.peek() ?? []).toReversed()) {
      if (status === 'complete') continue
      await idle()
      left -= watches.peek().get(id)?.follow() ?? 0
      if (left <= 0 || ended.aborted) break
    }
    following = false
  }
  // What is followed by nobody is counted again when one comes back.
  const look = (): void => {
    if (document.visibilityState === 'visible' && list.peek()) shared.recount()
  }
  document.addEventListener('visibilitychange', look, { signal: ended })

  // What changed is read one at a time, and once, however often it changed meanwhile.
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
      // One that was not seen before may have chats; one that is as it was has a new one.
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
      if (event.event === 'reset') await load().catch(failure.set)
      else {
        changed.add(event.mission)
        void readChanged()
      }
    }
  }
  run().catch(failure.set)

  const channels = (id: string): Channel[] => watches.value.get(id)?.channels.value ?? []
  const unread = (id: string): number => channels(id).reduce((sum, { unread }) => sum + unread, 0)
  return {
    list,
    failure: failure.text,
    unread,
    channels,
    /** A chat is on show: what is less urgent may begin. */
    shown(): void {
      shown = true
      void followAll()
    },
    /** Follows a mission's chats, and who is in them; -> ends the latter. */
    attend(id: string): () => void {
      const watch = watches.peek().get(id)
      watch?.follow()
      watch?.attend()
      return () => watch?.leave()
    },
    /** What is known of a chat; undefined: nothing yet. */
    chat: (id: string, citizen: string): Channel | undefined =>
      watches
        .peek()
        .get(id)
        ?.channels.peek()
        .find((one) => one.citizen === citizen),
    read: (id: string, citizen: string, seq: number): void => watches.peek().get(id)?.read(citizen, seq),
    recount: shared.recount,
    total: computed(() => [...watches.value.keys()].reduce((sum, id) => sum + unread(id), 0)),
    close: (): void => ending.abort(),
  }
}
export type Missions = ReturnType<typeof makeMissions>

/** A mission's chats: what is unread in each, and what its citizen does. */
const makeWatch = ({ deck, sub, ended, tick, recount }: Shared, mission: string): Watch => {
  const ending = new AbortController()
  const until = AbortSignal.any([ended, ending.signal])
  const names = team.map(({ name }) => name as string)
  const blank = (citizen: string): Channel => ({ ...nobody, citizen })
  const channels = signal<Channel[]>(names.map(blank))
  /** when each chat last changed here */
  const touched = new Map<string, number>()
  const change = (citizen: string, more: (old: Channel) => Partial<Channel>): void => {
    const old = channels.peek().find((one) => one.citizen === citizen)
    const next = old && { ...old, ...more(old) }
    const same = !next || (Object.keys(next) as (keyof Channel)[]).every((name) => next[name] === old[name])
    if (!same) channels.value = channels.peek().map((one) => (one === old ? next : one))
  }
  // How many of those that are left are one's own is not known here: where any are, they are counted again once the server knows.
  const read = (citizen: string, seq: number): void => {
    touched.set(citizen, tick())
    change(citizen, ({ unread, first, head, read }) => {
      if (seq <= read) return {}
      if (seq >= head) return { unread: 0, first: 0, read: seq }
      return { unread: Math.min(unread, head - seq), first: first > seq || unread === 0 ? first : seq + 1, read: seq }
    })
  }
  const put = (chats: MissionChat[], asked: number): boolean => {
    const kept = (citizen: string): boolean => (touched.get(citizen) ?? 0) > asked
    const others = [...chats, ...channels.peek()].map(({ citizen }) => citizen).filter((name) => !names.includes(name))
    channels.value = [...names, ...new Set(others)].map((citizen) => {
      const found = chats.find((one) => one.citizen === citizen)
      const old = channels.peek().find((one) => one.citizen === citizen) ?? blank(citizen)
      if (kept(citizen)) return old
      // What is not listed has nothing unread.
      if (!found) return { ...old, unread: 0, first: 0 }
      const { unread, first_unread, last_seq, read_seq } = found
      // The server does not know yet what was read here.
      if (read_seq < old.read) return old
      return { ...old, unread, first: first_unread ?? 0, head: last_seq, read: read_seq }
    })
    if (followed) follow()
    return chats.some(({ citizen }) => kept(citizen))
  }

  const listen = async (citizen: string, after: number): Promise<void> => {
    const writing = new Set<string>()
    const isWorking = (): Partial<Channel> => ({ working: writing.size > 0 })
    for await (const event of deck.chat(mission, citizen).follow({ after, signals: true, signal: until })) {
      if (event.event === 'message.created') {
        writing.delete(event.data.key ?? '')
        if (event.data.sender === 'citizen') writing.delete('typing')
        touched.set(citizen, tick())
        const own = event.data.author === sub
        change(citizen, ({ unread, first, head, read }) => {
          const { seq } = event
          if (own || seq <= Math.max(head, read)) return { head: Math.max(head, seq), ...isWorking() }
          return { unread: Math.min(1000, unread + 1), first: first || seq, head: seq, ...isWorking() }
        })
      } else if (event.event === 'chat.cleared') {
        touched.set(citizen, tick())
        change(citizen, () => ({ unread: 0, first: 0, head: event.seq }))
      } else if (event.event === 'read') {
        read(citizen, event.seq)
        if (channels.peek().some((one) => one.citizen === citizen && one.unread > 0)) recount()
      } else if (event.event === 'draft' && !writing.has(event.key)) {
        writing.add(event.key)
        change(citizen, isWorking)
      } else if (event.event === 'aborted') {
        writing.delete(event.key)
        change(citizen, isWorking)
      } else if (event.event === 'typing' && event.role === 'citizen') {
        writing[event.on ? 'add' : 'delete']('typing')
        change(citizen, isWorking)
      } else if (event.event === 'reset') {
        // Another epoch: what is known of the chat is of the one before. It is followed again once it was counted.
        touched.delete(citizen)
        change(citizen, () => ({ unread: 0, first: 0, head: 0, read: 0 }))
        return recount()
      }
    }
  }
  let followed = false
  const heard = new Set<string>()
  const follow = (): number => {
    followed = true
    const fresh = channels.peek().filter(({ citizen }) => !heard.has(citizen))
    for (const { citizen, head } of fresh) {
      heard.add(citizen)
      void listen(citizen, head)
        .catch(() => {})
        .then(() => heard.delete(citizen))
    }
    if (attending && fresh.length > 0) attend()
    return heard.size
  }

  // Who is there is asked for the mission on show only.
  let attending: AbortController | undefined
  const attend = (): void => {
    attending?.abort()
    attending = new AbortController()
    const signal = AbortSignal.any([until, attending.signal])
    for (const { citizen } of channels.peek()) lookAt(citizen, signal).catch(() => {})
  }
  const lookAt = async (citizen: string, signal: AbortSignal): Promise<void> => {
    const here = (subs: Present[]): boolean => subs.some(({ sub, role }) => role === 'citizen' && sub === citizen)
    for await (const event of deck.chat(mission, citizen).follow({ signals: true, presence: true, signal })) {
      if (event.event !== 'presence') continue
      const { subs, joined, left } = event
      if (subs) change(citizen, () => ({ online: here(subs) }))
      else if (here(joined) || here(left)) change(citizen, () => ({ online: here(joined) }))
    }
  }

  return {
    channels,
    put,
    read,
    follow,
    attend,
    leave(): void {
      attending?.abort()
      attending = undefined
    },
    close: () => ending.abort(),
  }
}
