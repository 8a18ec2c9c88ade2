// Reads for HTTP: a page of a chat's messages, and a mission's chats. Rows, head and the mission's assignee come from one statement
// (database/read/read-mission).
import type pg from 'pg'
import { deny } from '../../protocol/errors.ts'
import { answerBytes, rowsToRead } from '../bounds.ts'
import type { Message } from '../../protocol/rows.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import { toMessage, type MessageColumns } from '../postgres/columns.ts'
import * as sql from './chat-history.sql.ts'
import { readMission } from './read-mission.ts'
import { makeReadChat } from './replica.ts'

/** Where a page of chats ended: the time of a chat's newest message (RFC 3339; the year 1 if it has no message), and its topic. */
export type ChannelCursor = { last: string; topic: string }

/** Returns a message for the list of chats; `cut` is set if it was shortened. `heavy`: its code blocks were left out; `bulky`: its details. */
const shorten = (
  message: Message,
  { heavy, bulky }: { heavy: boolean | null; bulky: boolean | null },
): Message & { cut?: true } => {
  const { characters, blockBytes } = sql.shown
  // The limit counts code points. They are counted only if there are more code units than that.
  const long = message.message.length > characters && [...message.message].length > characters
  const blocks = message.code_blocks
  const large = heavy === true || (blocks !== null && Buffer.byteLength(JSON.stringify(blocks)) > blockBytes)
  if (!long && !large && bulky !== true) return message
  return {
    ...message,
    message: long ? [...message.message].slice(0, characters).join('') : message.message,
    code_blocks: large ? null : blocks,
    cut: true,
  }
}

export type HistoryQuery = { after?: number; before?: number; limit: number }

/** `main` is for reads; pages may come from a replica. */
export const makeHistory = (main: pg.Pool, { readChat } = makeReadChat(main)) => {
  return {
    /** Returns a page of a chat's messages in ascending order, with head and epoch of the same snapshot. */
    async page(ref: MissionRef, citizen: string, { after, before, limit }: HistoryQuery) {
      const forward = after !== undefined
      const direction = forward ? 'after' : 'before'
      type Row = { head: number; found: number | null } & ((MessageColumns & { size: number }) | { seq: null })
      const read = async (pool: pg.Pool) => {
        const page: (MessageColumns & { size: number })[] = []
        let bytes = 0
        let low = after ?? 0
        let high = before ?? Number.MAX_SAFE_INTEGER
        let first: { epoch: string; head: number } | undefined
        for (;;) {
          const count = rowsToRead(limit + 1 - page.length, { rows: page.length, bytes })
          const { mission, epoch, rows } = await readMission<Row>(pool, {
            ref,
            name: `history-${direction}`,
            text: sql.historyPage[direction],
            values: [citizen, low, high, count, Math.max(1, answerBytes - bytes)],
          })
          first ??= { epoch, head: rows[0]?.head ?? 0 }
          if (mission && epoch !== first.epoch)
            throw deny('unavailable', 'the database was restored or replaced while reading: start again')
          const read = rows.flatMap((row) => (row.seq === null ? [] : [row]))
          const found = rows[0]?.found ?? 0
          const full = bytes >= answerBytes && read.length > 0
          if (!full) {
            bytes += read.reduce((sum, { size }) => sum + size, 0)
            if (forward) page.push(...read)
            else page.unshift(...read)
          }
          const cut = full || found > read.length
          if (cut || found < count || page.length > limit) return { ...first, mission, page, cut }
          // Later statements read nothing newer than the first statement's snapshot.
          if (forward) [low, high] = [page.at(-1)?.seq ?? low, Math.min(high, first.head + 1)]
          else high = page[0]?.seq ?? high
        }
      }
      const { found, mission } = await readChat(ref, citizen, read, (page) => page)
      const { page, cut, head, epoch } = found
      const messages = mission ? page.map((row) => toMessage(row, mission.id, citizen)) : []
      const has_more = cut || messages.length > limit
      // One message more than `limit` was read: the newest one if reading forward, the oldest one if backward.
      if (messages.length > limit) messages.splice(forward ? limit : 0, 1)
      return { mission, messages, last_seq: head, has_more, epoch }
    },

    /**
     * Returns the chats of a mission that ever had a message, sorted by their newest message, newest first. Each has its latest seq, its
     * newest message, shortened, how far `sub` has read, and the counts of its questions. `next` is the cursor of the next page.
     */
    async channels(ref: MissionRef, sub: string, { limit, before }: { limit: number; before?: ChannelCursor }) {
      type Row = {
        citizen: string | null
        topic: string
        last: string
        head: number
        read_seq: number
        unread: number
        listening: boolean
        waiting: number
        working: number
        failed: number
        heavy: boolean | null
        bulky: boolean | null
      } & (MessageColumns | { seq: null })
      const { mission, rows } = await readMission<Row>(main, {
        ref,
        name: 'channels',
        text: sql.channelList,
        values: [sub, before?.last, before?.topic, limit + 1],
      })
      const found = rows.filter(({ citizen }) => citizen !== null)
      const page = found.slice(0, limit)
      const end = found.length > limit ? page.at(-1) : undefined
      const channels = page.flatMap((row) =>
        row.citizen === null || row.head === 0 || !mission
          ? []
          : [
              {
                citizen: row.citizen,
                last_seq: row.head,
                last_message: row.seq === null ? null : shorten(toMessage(row, mission.id, row.citizen), row),
                read_seq: row.read_seq,
                unread: row.unread,
                listening: row.listening,
                waiting: row.waiting,
                working: row.working,
                failed: row.failed,
              },
            ],
      )
      return { mission, channels, next: end ? { last: end.last, topic: end.topic } : null }
    },
  }
}
export type History = ReturnType<typeof makeHistory>
