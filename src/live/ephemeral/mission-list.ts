// The topic `missions`: a follower gets the ID of each mission that was created, changed or deleted, if it may see the mission, or could
// see it before. On request it also gets the IDs of missions with a new chat, found by the notifications that this instance receives.
// The topic has no seq and no replay: clients read the change over HTTP. Any database login can notify, so a notification only causes a
// read of the database.
import { sees } from '../../access/policy.ts'
import { encodeFrame } from '../../protocol/encode.ts'
import { toChunk } from '../../protocol/websocket-wire.ts'
import type { Receiver } from '../hub/subscription.ts'

export const missionList = 'missions'

/** The assignee and the members of a mission, and those before; `stamp` differs after each change. */
export type Assigned = { id: string; number: number; assigned: string[]; stamp: string }

/** A chat's mission; `fresh`: the chat was created after a mark. */
export type NewChat = { topic: string; id: string; number: number; assigned: string[]; fresh: boolean }

/** ms between two reads, missions or chats of one read, and missions or chats that may wait. */
const every = 20
const most = 500
const mostWaiting = 10_000
/** Missions whose last change is remembered, and chats that are known to exist. */
const mostKnown = 10_000

const uuid = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'
const named = new RegExp(`^missions (${uuid})$`)
const newMessages = new RegExp(`^\\S{1,64} \\d{1,16} (missions/${uuid}/chat/[a-z][a-z0-9_-]{0,31})$`)

/** Takes up to `most` out of a set. */
const take = (set: Set<string>): string[] => {
  const taken = [...set].slice(0, most)
  for (const one of taken) set.delete(one)
  return taken
}

export const makeList = (options: {
  /** Returns a mark in the database's history: `read` and `chats` find the changes after it. */
  mark: () => Promise<string>
  /** Returns those of the missions that were changed after a mark. */
  read: (missions: string[], since: string) => Promise<Assigned[]>
  /** Returns those of the chats that exist. */
  chats: (topics: string[], since: string) => Promise<NewChat[]>
  onError: (error: unknown) => void
}) => {
  /** The value: whether the follower also gets new chats. */
  const followers = new Map<Receiver, boolean>()
  const waiting = new Set<string>()
  const waitingChats = new Set<string>()
  const knownChats = new Set<string>()
  const stamps = new Map<string, string>()
  let since = ''
  let timer: NodeJS.Timeout | undefined

  /** Returns whether a change was not sent yet. */
  const isNews = ({ id, stamp }: Assigned): boolean => {
    if (stamps.get(id) === stamp) return false
    stamps.delete(id)
    if (stamps.size >= mostKnown) for (const oldest of stamps.keys()) if (stamps.delete(oldest)) break
    stamps.set(id, stamp)
    return true
  }

  /** Sends a changed mission to the followers that may see it if they are `assigned`; `ofChats`: only to those that get new chats. */
  const announce = ({ id, number, assigned }: Omit<Assigned, 'stamp'>, ofChats = false): void => {
    const { bytes } = toChunk([encodeFrame('missions.changed', { mission: id })])
    for (const [receiver, chats] of followers)
      if ((chats || !ofChats) && sees(receiver.actor, { id, number, assigned_to: '', members: assigned }))
        receiver.send(bytes, 1)
  }
  const readMissions = async (): Promise<void> => {
    if (waiting.size === 0) return
    for (const mission of (await options.read(take(waiting), since)).filter(isNews)) announce(mission)
  }
  const readChats = async (): Promise<void> => {
    if (waitingChats.size === 0) return
    const made = new Map<string, NewChat>()
    for (const chat of await options.chats(take(waitingChats), since)) {
      // A second notification of the chat may have arrived during the read.
      if (chat.fresh && !knownChats.has(chat.topic)) made.set(chat.id, chat)
      if (knownChats.size >= mostKnown) knownChats.clear()
      knownChats.add(chat.topic)
    }
    for (const mission of made.values()) announce(mission, true)
  }
  const flush = async (): Promise<void> => {
    for (const read of [readMissions, readChats]) await read().catch(options.onError)
    timer = undefined
    if (waiting.size + waitingChats.size > 0) wake()
  }
  const wake = (): void => {
    timer ??= setTimeout(() => void flush(), every)
  }

  /** The number of followers that get new chats. */
  let wanted = 0
  const leave = (receiver: Receiver): void => {
    if (followers.get(receiver)) wanted--
    followers.delete(receiver)
  }
  /** A chat has new messages, so it may be a new chat. */
  const saved = (topic: string): void => {
    if (wanted === 0 || waitingChats.size >= mostWaiting || knownChats.has(topic)) return
    waitingChats.add(topic)
    wake()
  }

  return {
    /** Prepares for the first follower: changes after this call are sent. */
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
    /** Takes a notification. Returns true for "missions <id>" (db/functions/changes.sql). A notification of new events may be of a new chat. */
    receive(payload: string): boolean {
      if (payload.startsWith('missions ')) {
        const id = named.exec(payload)?.[1]
        if (id !== undefined && followers.size > 0 && waiting.size < mostWaiting) {
          waiting.add(id)
          wake()
        }
        return true
      }
      const topic = wanted === 0 ? undefined : newMessages.exec(payload)?.[1]
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
