// The chats of one mission, live: the unread count of each, what its citizen does, and how many of its requests are open. Events keep the counts up to date. A count
// that can't be derived from them (a chat that was read in part, or on a different device) is requested again.
import { signal, type Signal } from '@preact/signals'
import type { MissionChat, OpenRequests, Question } from '../../client/index.ts'
import type { Citizens } from './citizens.ts'
import { makeRequestCounts, type Asking } from './request-counts.ts'

export type Channel = {
  citizen: string
  /** unread messages of others, and the seq of the first (0: no unread message) */
  unread: number
  first: number
  head: number
  read: number
  /** questions that nobody has, and questions that were given up */
  waiting: number
  failed: number
  /** open requests to people that the user may answer */
  requests: number
  /** whether the citizen is writing */
  working: boolean
}
export const emptyChannel: Omit<Channel, 'citizen'> = {
  unread: 0,
  first: 0,
  head: 0,
  read: 0,
  waiting: 0,
  failed: 0,
  requests: 0,
  working: false,
}
export type MissionChats = {
  channels: Signal<Channel[]>
  /** Applies the server's counts, except to chats that changed here since `asked`. Returns whether any did. */
  put(chats: MissionChat[], requests: OpenRequests, asked: number): boolean
  read(citizen: string, seq: number): void
  /** Whether the mission has, or may have, requests. */
  anyRequests(): boolean
  /** Follows the mission's chats and requests. Returns how many topics are followed. */
  follow(): number
  /** The registry of citizens has changed. */
  arrange(): void
  /** Signals were lost: the counts will be put again. */
  forget(): void
  close(): void
}
/** Shared by all missions: the client, the user, the registry, a clock for changes, and the request to count again. */
export type Shared = Asking & {
  sub: string
  citizens: Pick<Citizens, 'list' | 'note'>
  ended: AbortSignal
  tick(): number
  /** `apart`: milliseconds between two counts, if it is not urgent */
  recount(apart?: number): void
}
/** Milliseconds between two counts of questions: agents may change many at a time. */
export const apart = 10_000
/** Unfinished questions of a chat whose states are held. */
const mostStates = 1000

export const makeMissionChats = (shared: Shared, mission: string): MissionChats => {
  const { deck, sub, citizens, ended, tick, recount } = shared
  const ending = new AbortController()
  const until = AbortSignal.any([ended, ending.signal])
  const registered = (): string[] => (citizens.list.peek() ?? []).map(({ name }) => name)
  const blank = (citizen: string): Channel => ({ ...emptyChannel, citizen })
  const channels = signal<Channel[]>(registered().map(blank))
  /** each chat when it was last counted: its latest seq, and whether it had unfinished questions */
  const counted = new Map<string, { head: number; open: boolean }>()
  /** the state of the unfinished questions that signals reported, by chat */
  const states = new Map<string, Map<string, Question['state']>>()
  /** when each chat last changed here */
  const touched = new Map<string, number>()
  const channelOf = (citizen: string): Channel | undefined => channels.peek().find((one) => one.citizen === citizen)
  const change = (citizen: string, more: (old: Channel) => Partial<Channel>): void => {
    const old = channelOf(citizen)
    const next = old && { ...old, ...more(old) }
    const same = !next || (Object.keys(next) as (keyof Channel)[]).every((name) => next[name] === old[name])
    if (!same) channels.value = channels.peek().map((one) => (one === old ? next : one))
  }
  const requests = makeRequestCounts(shared, {
    mission,
    until,
    recount,
    changed(citizen) {
      // A citizen that asks is listed even if it has no chat.
      if (!channelOf(citizen)) channels.value = [...channels.peek(), blank(citizen)]
      change(citizen, () => ({ requests: requests.of(citizen) }))
      follow()
    },
  })
  // How many of the remaining messages are the user's own is unknown here, so the caller requests a new count if any remain.
  const read = (citizen: string, seq: number): void => {
    touched.set(citizen, tick())
    change(citizen, ({ unread, first, head, read }) => {
      if (seq <= read) return {}
      if (seq >= head) return { unread: 0, first: 0, read: seq }
      return { unread: Math.min(unread, head - seq), first: first > seq || unread === 0 ? first : seq + 1, read: seq }
    })
  }
  const put = (chats: MissionChat[], open: OpenRequests, asked: number): boolean => {
    requests.put(open)
    const kept = (citizen: string): boolean => (touched.get(citizen) ?? 0) > asked
    // A citizen that is not registered is listed while it has a chat.
    const others = [...chats, ...channels.peek().filter(({ head }) => head > 0)].map(({ citizen }) => citizen)
    channels.value = [...new Set([...registered(), ...others, ...requests.citizens()])].map((citizen) => {
      const found = chats.find((one) => one.citizen === citizen)
      const old = { ...(channelOf(citizen) ?? blank(citizen)), requests: requests.of(citizen) }
      if (kept(citizen)) return old
      counted.set(citizen, { head: found?.last_seq ?? old.head, open: false })
      // A chat that is not listed has no unread messages and no unfinished questions.
      if (!found) return { ...old, unread: 0, first: 0, waiting: 0, failed: 0 }
      const { unread, first_unread, last_seq, read_seq, waiting, working, failed } = found
      counted.set(citizen, { head: last_seq, open: waiting + working + failed > 0 })
      citizens.note(citizen, found.listening)
      // The server's read position is older than the one here.
      if (read_seq < old.read) return { ...old, waiting, failed }
      return { ...old, unread, first: first_unread ?? 0, head: last_seq, read: read_seq, waiting, failed }
    })
    if (followed) follow()
    return chats.some(({ citizen }) => kept(citizen))
  }

  const takeQuestion = (citizen: string, { id, seq, state }: Question): void => {
    const known = states.get(citizen) ?? new Map<string, Question['state']>()
    states.set(citizen, known)
    const before = known.get(id)
    if (before === state) return
    touched.set(citizen, tick())
    if (known.size > mostStates) known.clear()
    if (state === 'answered' || state === 'closed') known.delete(id)
    else known.set(id, state)
    const base = counted.get(citizen)
    // It was counted, in a state that is not known here.
    if (before === undefined && base?.open && seq <= base.head) return recount(apart)
    const by = (name: Question['state']): number => Number(state === name) - Number(before === name)
    change(citizen, ({ waiting, failed }) => ({
      waiting: Math.max(0, waiting + by('waiting')),
      failed: Math.max(0, failed + by('failed')),
    }))
  }

  const listen = async (citizen: string, after: number): Promise<void> => {
    const writing = new Set<string>()
    const isWorking = (): Partial<Channel> => ({ working: writing.size > 0 })
    const feed = deck.chat(mission, citizen).follow({ after, signals: true, questions: true, signal: until })
    // Questions that changed between the count and the subscription were not reported.
    if (after > 0) void feed.ready.then(() => recount(apart)).catch(() => {})
    for await (const event of feed) {
      if (event.event === 'message.created') {
        writing.delete(event.data.key ?? '')
        if (event.data.sender === 'citizen') {
          writing.delete('typing')
          // It may have ended questions without naming them.
          if (event.data.in_reply_to === null && (channelOf(citizen)?.waiting ?? 0) > 0) recount(apart)
        }
        touched.set(citizen, tick())
        const own = event.data.author === sub
        change(citizen, ({ unread, first, head, read }) => {
          const { seq } = event
          if (own || seq <= Math.max(head, read)) return { head: Math.max(head, seq), ...isWorking() }
          return { unread: Math.min(1000, unread + 1), first: first || seq, head: seq, ...isWorking() }
        })
      } else if (event.event === 'chat.cleared') {
        touched.set(citizen, tick())
        states.delete(citizen)
        change(citizen, () => ({ unread: 0, first: 0, head: event.seq, waiting: 0, failed: 0 }))
      } else if (event.event === 'question') {
        citizens.note(citizen, event.listening)
        takeQuestion(citizen, event)
      } else if (event.event === 'read') {
        read(citizen, event.seq)
        if ((channelOf(citizen)?.unread ?? 0) > 0) recount()
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
        // The epoch changed, so the chat's state is invalid. It is followed again after the next count.
        touched.delete(citizen)
        change(citizen, () => ({ unread: 0, first: 0, head: 0, read: 0, waiting: 0, failed: 0 }))
        return recount()
      }
    }
  }
  let followed = false
  const followedChats = new Set<string>()
  const follow = (): number => {
    followed = true
    requests.follow()
    const fresh = channels.peek().filter(({ citizen }) => !followedChats.has(citizen))
    for (const { citizen, head } of fresh) {
      followedChats.add(citizen)
      void listen(citizen, head)
        .catch(() => {})
        .then(() => followedChats.delete(citizen))
    }
    return followedChats.size + 1
  }

  const arrange = (): void => {
    const names = registered()
    const others = channels
      .peek()
      .filter(({ citizen, head, requests }) => head + requests > 0 && !names.includes(citizen))
    channels.value = [...names.map((name) => channelOf(name) ?? blank(name)), ...others]
    if (followed) follow()
  }

  return {
    channels,
    anyRequests: requests.any,
    put,
    read,
    follow,
    arrange,
    forget: () => states.clear(),
    close: () => ending.abort(),
  }
}
