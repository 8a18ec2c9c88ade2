// The topic `missions`: its followers receive which mission was created, changed or removed, if they may see it now or could before.
// Followers that ask for it also receive missions with a new chat, found by the notifications that this instance hears. There is no seq
// and no replay: clients read the change over HTTP. Any login can notify, so a notification is only a reason to read the database.
import { sees } from '../../access/policy.ts'
import { encodeFrame } from '../../protocol/encode.ts'
import { toChunk } from '../../protocol/websocket-wire.ts'
import type { Receiver } from '../hub/seat.ts'

export const missionList = 'missions'

/** The present and the former assignees of a mission; the stamp differs after each change. */
export type Assigned = { id: string; number: number; assigned: string[]; stamp: string }

/** A chat's mission, and whether the chat was made since a mark. */
export type NewChat = { topic: string; id: string; number: number; assigned_to: string; fresh: boolean }

/** ms in which missions are put together, and missions or chats that are read at a time, and that wait. */
const every = 20
const most = 500
const mostWaiting = 10_000
/** Missions whose last change is known, and chats that are known to be there. */
const mostTold = 10_000

const uuid = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'
const named = new RegExp(`^missions (${uuid})$`)
const hinted = new RegExp(`^\\S{1,64} \\d{1,16} (missions/${uuid}/chat/[a-z][a-z0-9_-]{0,31})$`)

/** Takes up to `most` out of a set. */
const take = (set: Set<string>): string[] => {
  const taken = [...set].slice(0, most)
  for (const one of taken) set.delete(one)
  return taken
}

export const makeList = (options: {
  /** Returns a mark: changes after it can be found. */
  mark: () => Promise<string>
  /** those that were changed since a mark */
  read: (missions: string[], since: string) => Promise<Assigned[]>
  /** of these chats those that exist */
  chats: (topics: string[], since: string) => Promise<NewChat[]>
  onError: (error: unknown) => void
}) => {
  /** with whether they receive new chats */
  const followers = new Map<Receiver, boolean>()
  const waiting = new Set<string>()
  const waitingChats = new Set<string>()
  const knownChats = new Set<string>()
  const stamps = new Map<string, string>()
  let since = ''
  let timer: NodeJS.Timeout | undefined

  /** Whether a change was not told yet. */
  const isNews = ({ id, stamp }: Assigned): boolean => {
    if (stamps.get(id) === stamp) return false
    stamps.delete(id)
    if (stamps.size >= mostTold) for (const oldest of stamps.keys()) if (stamps.delete(oldest)) break
    stamps.set(id, stamp)
    return true
  }

  /** Sends a changed mission to the followers that see it under one of `assigned`; `ofChats`: only to those that receive new chats. */
  const tell = ({ id, number, assigned }: Omit<Assigned, 'stamp'>, ofChats = false): void => {
    const { bytes } = toChunk([encodeFrame('missions.changed', { mission: id })])
    for (const [receiver, chats] of followers)
      if ((chats || !ofChats) && assigned.some((assigned_to) => sees(receiver.actor, { id, number, assigned_to })))
        receiver.send(bytes, 1)
  }
  const readMissions = async (): Promise<void> => {
    if (waiting.size === 0) return
    for (const mission of (await options.read(take(waiting), since)).filter(isNews)) tell(mission)
  }
  const readChats = async (): Promise<void> => {
    if (waitingChats.size === 0) return
    const made = new Map<string, NewChat>()
    for (const chat of await options.chats(take(waitingChats), since)) {
      // (Another hint of it may have come while it was read.)
      if (chat.fresh && !knownChats.has(chat.topic)) made.set(chat.id, chat)
      if (knownChats.size >= mostTold) knownChats.clear()
      knownChats.add(chat.topic)
    }
    for (const { id, number, assigned_to } of made.values()) tell({ id, number, assigned: [assigned_to] }, true)
  }
  const flush = async (): Promise<void> => {
    for (const read of [readMissions, readChats]) await read().catch(options.onError)
    timer = undefined
    if (waiting.size + waitingChats.size > 0) wake()
  }
  const wake = (): void => {
    timer ??= setTimeout(() => void flush(), every)
  }

  /** the number of followers that receive new chats */
  let wanted = 0
  const leave = (receiver: Receiver): void => {
    if (followers.get(receiver)) wanted--
    followers.delete(receiver)
  }
  /** A chat has new messages: it may be a new chat. */
  const saved = (topic: string): void => {
    if (wanted === 0 || waitingChats.size >= mostWaiting || knownChats.has(topic)) return
    waitingChats.add(topic)
    wake()
  }

  return {
    /** Prepares for the first follower: changes from here on are sent. */
    async ready(): Promise<void> {
      if (followers.size > 0) return
      const mark = await options.mark()
      if (followers.size > 0) return
      since = mark
      stamps.clear()
      knownChats.clear()
    },
    join(receiver: Receiver, chats: boolean): void {
      leave(receiver)
      followers.set(receiver, chats)
      if (chats) wanted++
    },
    leave,
    /** Takes a notification, "missions <id>" (db/functions/changes.sql): true if it was one. A hint may be of a new chat. */
    hear(payload: string): boolean {
      if (payload.startsWith('missions ')) {
        const id = named.exec(payload)?.[1]
        if (id !== undefined && followers.size > 0 && waiting.size < mostWaiting) {
          waiting.add(id)
          wake()
        }
        return true
      }
      const topic = wanted === 0 ? undefined : hinted.exec(payload)?.[1]
      if (topic !== undefined) saved(topic)
      return false
    },
    saved,
    close(): void {
      clearTimeout(timer)
      waiting.clear()
      waitingChats.clear()
    },
  }
}
export type List = ReturnType<typeof makeList>
