// Reads a whole chat for a stream: page by page in order of seq, up to the latest seq at the start. No connection is held between two pages,
// so slow readers block none. A page's rows, head, epoch and the mission's assignee come from one statement (database/read/read-mission).
// Seqs of deleted messages are skipped.
import type pg from 'pg'
import { deny } from '../../protocol/errors.ts'
import { isFiltered, type Filters } from '../../protocol/filters.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import { toMessage, type MessageColumns } from '../postgres/columns.ts'
import { readMission } from './read-mission.ts'
import { replayPage } from './chat-stream.sql.ts'
import type { ReplayPage } from './replay-page.ts'
import type { Reading } from './replica.ts'
import type { Search } from '../search/chat-search.ts'
import { makeTurns } from '../postgres/mutex.ts'

/** Maximum bytes of a page, except one row; rows of the first page, and maximum rows of a page. Chosen with `bench/history.ts`. */
const pageBytes = 256 * 1024
const firstRows = 100
const mostRows = 500

export type ReplayQuery = Filters & { after?: number; before?: number }

/** All streams together read one page at a time, from the replica if there is one. `search` handles queries with filters. */
export const makeReplay = ({ readChat }: Pick<Reading, 'readChat'>, search: Pick<Search, 'from'>) => {
  const turns = makeTurns()

  const readFrom = async (
    pool: pg.Pool,
    ref: MissionRef,
    citizen: string,
    after: number,
    before: number,
    limit: number,
  ) => {
    type Row = { head: number | null } & (MessageColumns | { seq: null })
    const { mission, epoch, rows } = await readMission<Row>(pool, {
      ref,
      name: 'replay',
      text: replayPage,
      values: [citizen, after, before, limit, pageBytes],
    })
    const messages = rows.flatMap((row) => (row.seq === null || !mission ? [] : [toMessage(row, mission.id, citizen)]))
    return { mission, messages, head: rows[0]?.head ?? 0, epoch }
  }
  /** `upto`: a seq that the chat is known to have reached. */
  const read = async (
    ref: MissionRef,
    citizen: string,
    after: number,
    before: number,
    limit: number,
    upto?: number,
  ) => {
    const part = (pool: pg.Pool) => readFrom(pool, ref, citizen, after, before, limit)
    const { found, mission } = await readChat(ref, citizen, part, (page) => page, upto)
    return { ...found, mission }
  }

  return {
    /** Returns the first page of a chat's messages between two seqs; its `next` reads the following one. */
    async from(ref: MissionRef, citizen: string, query: ReplayQuery, sub: string): Promise<ReplayPage> {
      if (isFiltered(query)) return search.from(ref, citizen, query, sub)
      const inTurn = turns(sub)
      const { after = 0, before = Number.MAX_SAFE_INTEGER } = query
      const first = await read(ref, citizen, after, before, firstRows)
      const { epoch } = first
      const last = Math.min(before - 1, first.head)
      const toPage = (found: typeof first): ReplayPage => {
        const { mission, messages } = found
        const reached = messages.at(-1)?.seq ?? last
        if (!mission || reached >= last) return found
        // If rows are large, the next statement requests only as many as fit into a page.
        const rows = Math.min(mostRows, messages.length * 2)
        const next = async (): Promise<ReplayPage> => {
          const following = await inTurn(() => read({ id: mission.id }, citizen, reached, last + 1, rows, last))
          if (following.mission && following.epoch !== epoch)
            throw deny('conflict', 'the database was restored or replaced while reading: start again')
          return toPage(following)
        }
        return { ...found, next }
      }
      return toPage(first)
    },
  }
}
export type Replay = ReturnType<typeof makeReplay>
