// The missions that one may see, live, and for each how much is unread; a chat that is open counts by what was read in it. The chats
// of up to 40 missions are followed for that, of the others the count is that of the last look.
import { batch, computed, signal, type Signal } from '@preact/signals'
import { DeckError, type Deck, type Mission, type Present } from '../../client/index.ts'

export const team = [
  { name: 'emma', role: 'Scope' },
  { name: 'inna', role: 'Specification' },
  { name: 'rafael', role: 'Code' },
  { name: 'sofia', role: 'Quality' },
  { name: 'maya', role: 'Delivery' },
] as const

export type Channel = { citizen: string; unread: number; head: number; online: boolean; working: boolean }
type Watch = {
  channels: Signal<Channel[]>
  read(citizen: string, seq: number): void
  /** Asks who is there, until it is left. */
  attend(): void
  leave(): void
  close(): void
}

const most = 40

export const makeMissions = (deck: Deck) => {
  const ending = new AbortController()
  const { signal: ended } = ending
  const list = signal<Mission[] | undefined>(undefined)
  const watches = signal(new Map<string, Watch>())
  const failure = signal('')

  const load = async (): Promise<void> => {
    const found: Mission[] = []
    let cursor: string | undefined
    do {
      const page = await deck.missions.list({ limit: 200, ...(cursor ? { cursor } : {}), signal: ended })
      found.push(...page.missions)
      cursor = page.next ?? undefined
    } while (cursor !== undefined && found.length < 2000)
    failure.value = ''
    set(found)
  }

  const set = (missions: Mission[]): void => {
    const sorted = missions.toSorted((a, b) => a.number - b.number)
    const next = new Map(watches.peek())
    const ids = new Set(sorted.map(({ id }) => id))
    for (const [id, watch] of next) {
      if (ids.has(id)) continue
      watch.close()
      next.delete(id)
    }
    // The newest first: they are looked at.
    for (const { id } of sorted.toReversed().filter(({ status }) => status !== 'complete')) {
      if (next.size >= most) break
      if (!next.has(id)) next.set(id, makeWatch(deck, id, ended))
    }
    batch(() => {
      list.value = sorted
      watches.value = next
    })
  }

  // What changed is read one at a time, and once, however often it changed meanwhile.
  const changed = new Set<string>()
  let reading = false
  const readChanged = async (): Promise<void> => {
    if (reading) return
    reading = true
    for (const id of changed) {
      changed.delete(id)
      const others = (list.peek() ?? []).filter((mission) => mission.id !== id)
      const mission = await deck
        .mission(id)
        .get({ signal: ended })
        .catch((error: unknown) => (error instanceof DeckError && error.code === 'not_found' ? null : undefined))
      if (mission === undefined) continue
      set(mission ? [...others, mission] : others)
    }
    reading = false
  }

  const run = async (): Promise<void> => {
    const feed = deck.missions.follow({ signal: ended })
    void feed.ready.then(load).catch(fail)
    for await (const event of feed) {
      if (event.event === 'reset') await load()
      else {
        changed.add(event.mission)
        void readChanged()
      }
    }
  }
  const fail = (error: unknown): void => {
    if (!ended.aborted) failure.value = error instanceof DeckError ? error.detail : String(error)
  }
  run().catch(fail)

  return {
    list,
    failure,
    unread: (id: string): number =>
      watches.value.get(id)?.channels.value.reduce((sum, { unread }) => sum + unread, 0) ?? 0,
    channels: (id: string) => watches.value.get(id)?.channels.value ?? [],
    /** Sees to it that a mission's chats are followed, and who is in them; -> ends the latter. */
    attend(id: string): () => void {
      const watch = watches.peek().get(id) ?? makeWatch(deck, id, ended)
      if (!watches.peek().has(id)) watches.value = new Map(watches.peek()).set(id, watch)
      watch.attend()
      return watch.leave
    },
    read: (id: string, citizen: string, seq: number): void => watches.peek().get(id)?.read(citizen, seq),
    total: computed(() =>
      [...watches.value.values()].reduce(
        (sum, { channels }) => sum + channels.value.reduce((n, { unread }) => n + unread, 0),
        0,
      ),
    ),
    close: (): void => ending.abort(),
  }
}
export type Missions = ReturnType<typeof makeMissions>

/** A mission's chats: what is unread in each, and what its citizen does. */
const makeWatch = (deck: Deck, mission: string, ended: AbortSignal): Watch => {
  const ending = new AbortController()
  const until = AbortSignal.any([ended, ending.signal])
  const names = team.map(({ name }) => name as string)
  const blank = (citizen: string): Channel => ({ citizen, unread: 0, head: 0, online: false, working: false })
  const channels = signal<Channel[]>(names.map(blank))
  const change = (citizen: string, more: (old: Channel) => Partial<Channel>): void => {
    const old = channels.peek().find((one) => one.citizen === citizen)
    const next = old && { ...old, ...more(old) }
    const same = !next || (Object.keys(next) as (keyof Channel)[]).every((name) => next[name] === old[name])
    if (!same) channels.value = channels.peek().map((one) => (one === old ? next : one))
  }
  const read = (citizen: string, seq: number): void =>
    change(citizen, ({ unread, head }) => ({ unread: Math.min(unread, Math.max(0, head - seq)) }))

  const follow = async (citizen: string, after: number, signal: AbortSignal): Promise<void> => {
    const writing = new Set<string>()
    const isWorking = (): Partial<Channel> => ({ working: writing.size > 0 })
    for await (const event of deck.chat(mission, citizen).follow({ after, signals: true, signal })) {
      if (event.event === 'message.created') {
        writing.delete(event.data.key ?? '')
        if (event.data.sender === 'citizen') writing.delete('typing')
        change(citizen, ({ unread }) => ({ unread: Math.min(1000, unread + 1), head: event.seq, ...isWorking() }))
      } else if (event.event === 'chat.cleared') change(citizen, () => ({ unread: 0, head: event.seq }))
      else if (event.event === 'read') read(citizen, event.seq)
      else if (event.event === 'draft' && !writing.has(event.key)) {
        writing.add(event.key)
        change(citizen, isWorking)
      } else if (event.event === 'aborted') {
        writing.delete(event.key)
        change(citizen, isWorking)
      } else if (event.event === 'typing' && event.role === 'citizen') {
        writing[event.on ? 'add' : 'delete']('typing')
        change(citizen, isWorking)
      } else if (event.event === 'reset') return void run()
    }
  }

  // Another epoch is the same for all chats: begun anew once.
  let turn = new AbortController()
  const run = async (): Promise<void> => {
    turn.abort()
    turn = new AbortController()
    const signal = AbortSignal.any([until, turn.signal])
    const known = await deck
      .mission(mission)
      .channels({ signal })
      .catch(() => undefined)
    if (!known) return
    const others = known.map(({ citizen }) => citizen).filter((name) => !names.includes(name))
    channels.value = [...names, ...others].map((citizen) => {
      const found = known.find((one) => one.citizen === citizen)
      const old = channels.peek().find((one) => one.citizen === citizen) ?? blank(citizen)
      return { ...old, unread: found?.unread ?? 0, head: found?.last_seq ?? 0 }
    })
    for (const { citizen, head } of channels.peek()) follow(citizen, head, signal).catch(() => {})
    if (attending) attend()
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

  void run()
  return {
    channels,
    read,
    attend,
    leave(): void {
      attending?.abort()
      attending = undefined
    },
    close: () => ending.abort(),
  }
}
