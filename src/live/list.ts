// Who follows the list of missions, the topic `missions`: told which mission changed, came or went, if it may be seen now or could be
// before. No seq and no replay: what changed is read over HTTP. A notification names a mission and nothing else, since anybody may send
// one: who may see it is read, and whether it was changed at all.
import { sees } from '../access/policy.ts'
import { encodeFrame, toChunk } from '../protocol/frames.ts'
import type { Receiver } from './hub.ts'

export const missionList = 'missions'

/** The present and the former assignees of a mission; the stamp differs after each change. */
export type Assigned = { id: string; number: number; assigned: string[]; stamp: string }

/** ms in which missions are put together, and missions that are read at a time, and that wait. */
const every = 20
const most = 500
const mostWaiting = 10_000
/** Missions whose last change is known. */
const mostTold = 10_000

const named = /^missions ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/

export const makeList = (options: {
  /** Returns a mark: changes after it can be found. */
  mark: () => Promise<string>
  /** those that were changed since a mark */
  read: (missions: string[], since: string) => Promise<Assigned[]>
  onError: (error: unknown) => void
}) => {
  const followers = new Set<Receiver>()
  const waiting = new Set<string>()
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

  const flush = async (): Promise<void> => {
    const ids = [...waiting].slice(0, most)
    for (const id of ids) waiting.delete(id)
    try {
      for (const { id, number, assigned } of (await options.read(ids, since)).filter(isNews)) {
        const { bytes } = toChunk([encodeFrame('missions.changed', { mission: id })])
        for (const receiver of followers)
          if (assigned.some((assigned_to) => sees(receiver.actor, { id, number, assigned_to }))) receiver.send(bytes, 1)
      }
    } catch (error) {
      options.onError(error)
    }
    timer = waiting.size > 0 ? setTimeout(() => void flush(), every) : undefined
  }

  return {
    /** Prepares for the first follower: changes from here on are sent. */
    async ready(): Promise<void> {
      if (followers.size > 0) return
      const mark = await options.mark()
      if (followers.size > 0) return
      since = mark
      stamps.clear()
    },
    join: (receiver: Receiver): void => void followers.add(receiver),
    leave: (receiver: Receiver): void => void followers.delete(receiver),
    /** Takes a notification, "missions <id>" (db/functions/changes.sql): true if it was one. */
    hear(payload: string): boolean {
      if (!payload.startsWith('missions ')) return false
      const id = named.exec(payload)?.[1]
      if (id === undefined || followers.size === 0 || waiting.size >= mostWaiting) return true
      waiting.add(id)
      timer ??= setTimeout(() => void flush(), every)
      return true
    },
    close(): void {
      clearTimeout(timer)
      waiting.clear()
    },
  }
}
export type List = ReturnType<typeof makeList>
