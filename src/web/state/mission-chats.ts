// The chats of one mission, live: the unread count of each, and what its citizen does. Events keep the counts up to date. A count
// that can't be derived from them (a chat that was read in part, or on a different device) is requested again.
import { signal, type Signal } from '@preact/signals'
import type { Deck, MissionChat, Present } from '../../client/index.ts'

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
export const emptyChannel: Omit<Channel, 'citizen'> = {
  unread: 0,
  first: 0,
  head: 0,
  read: 0,
  online: false,
  working: false,
}
export type MissionChats = {
  channels: Signal<Channel[]>
  /** Applies the server's counts, except to chats that changed here since `asked`. Returns whether any did. */
  put(chats: MissionChat[], asked: number): boolean
  read(citizen: string, seq: number): void
  /** Follows the mission's chats. Returns how many are followed. */
  follow(): number
  /** Follows presence until `leave`. */
  attend(): void
  leave(): void
  close(): void
}
/** Shared by all missions: the client, the user, a clock for changes, and the request to count again. */
export type Shared = { deck: Deck; sub: string; ended: AbortSignal; tick(): number; recount(): void }

export const makeMissionChats = ({ deck, sub, ended, tick, recount }: Shared, mission: string): MissionChats => {
  const ending = new AbortController()
  const until = AbortSignal.any([ended, ending.signal])
  const names = team.map(({ name }) => name as string)
  const blank = (citizen: string): Channel => ({ ...emptyChannel, citizen })
  const channels = signal<Channel[]>(names.map(blank))
  /** when each chat last changed here */
  const touched = new Map<string, number>()
  const channelOf = (citizen: string): Channel | undefined => channels.peek().find((one) => one.citizen === citizen)
  const change = (citizen: string, more: (old: Channel) => Partial<Channel>): void => {
    const old = channelOf(citizen)
    const next = old && { ...old, ...more(old) }
    const same = !next || (Object.keys(next) as (keyof Channel)[]).every((name) => next[name] === old[name])
    if (!same) channels.value = channels.peek().map((one) => (one === old ? next : one))
  }
  // How many of the remaining messages are the user's own is unknown here, so the caller requests a new count if any remain.
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
      const old = channelOf(citizen) ?? blank(citizen)
      if (kept(citizen)) return old
      // A chat that is not listed has no unread messages.
      if (!found) return { ...old, unread: 0, first: 0 }
      const { unread, first_unread, last_seq, read_seq } = found
      // The server's read position is older than the one here.
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
        change(citizen, () => ({ unread: 0, first: 0, head: 0, read: 0 }))
        return recount()
      }
    }
  }
  let followed = false
  const followedChats = new Set<string>()
  const follow = (): number => {
    followed = true
    const fresh = channels.peek().filter(({ citizen }) => !followedChats.has(citizen))
    for (const { citizen, head } of fresh) {
      followedChats.add(citizen)
      void listen(citizen, head)
        .catch(() => {})
        .then(() => followedChats.delete(citizen))
    }
    if (attending && fresh.length > 0) attend()
    return followedChats.size
  }

  // Presence is followed only for the open mission.
  let attending: AbortController | undefined
  const attend = (): void => {
    attending?.abort()
    attending = new AbortController()
    const signal = AbortSignal.any([until, attending.signal])
    for (const { citizen } of channels.peek()) followPresence(citizen, signal).catch(() => {})
  }
  const followPresence = async (citizen: string, signal: AbortSignal): Promise<void> => {
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
