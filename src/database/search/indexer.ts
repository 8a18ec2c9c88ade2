// Builds the blocks that filters look up (db/functions/search.sql) in the background. Searches scan messages that have no block yet. One
// instance builds at a time, for at most a tenth of the time, so that writers at full speed and imports keep the machine.
import type pg from 'pg'

/** ms until a turn ends that its holder does not renew. */
const turnLasts = 20_000
/** A pause is this many times as long as the preceding work. */
const rest = 9
/** Blocks per statement, about 10 ms each. */
const blocks = 2

type Chat = { mission_id: string; citizen: string }

/** `every`: ms between two checks for blocks that are due. */
export const makeIndexer = (writes: pg.Pool, instance: string, onError: (error: unknown) => void, every: number) => {
  let timer: NodeJS.Timeout | undefined
  let closed = false
  let waiting: Chat[] = []

  const mine = async (): Promise<boolean> => {
    const { rowCount } = await writes.query({
      name: 'search-turn',
      text: `update deck.search_turn set holder = $1, until = clock_timestamp() + $2 * interval '1 ms'
             where holder = $1 or until < clock_timestamp()`,
      values: [instance, turnLasts],
    })
    return (rowCount ?? 0) > 0
  }

  const mend = async (): Promise<boolean> => {
    const { rows } = await writes.query<{ more: boolean }>({
      name: 'search-mend',
      text: 'select deck.search_mend($1) as more',
      values: [blocks],
    })
    return rows[0]?.more === true
  }
  const add = async (): Promise<boolean> => {
    if (waiting.length === 0) {
      const { rows } = await writes.query<Chat>({
        name: 'search-due',
        text: 'select mission_id, citizen from deck.search_due()',
      })
      waiting = rows
    }
    const chat = waiting.pop()
    if (!chat) return false
    const { rows } = await writes.query<{ added: number }>({
      name: 'search-index',
      text: 'select deck.search_index($1, $2, $3) as added',
      values: [chat.mission_id, chat.citizen, blocks],
    })
    // Other chats get their turn first.
    if (rows[0]?.added === blocks) waiting.unshift(chat)
    return waiting.length > 0
  }
  /** Reports a failure instead of rejecting, so that it delays no other work. The work is tried again later. */
  const attempt = (work: () => Promise<boolean>): Promise<boolean> =>
    work().catch((error: unknown) => {
      if (!closed) onError(error)
      return false
    })
  /** Does some work. Returns true if more is left. */
  const work = async (): Promise<boolean> => {
    if (!(await mine())) return false
    const mended = await attempt(mend)
    return (await attempt(add)) || mended || waiting.length > 0
  }

  const round = async (): Promise<void> => {
    const since = performance.now()
    const more = await attempt(work)
    const took = performance.now() - since
    if (!closed) timer = setTimeout(() => void round(), more ? took * rest : Math.max(every, took * rest))
  }

  return {
    start: () => void round(),
    close() {
      closed = true
      clearTimeout(timer)
    },
  }
}
export type Indexer = ReturnType<typeof makeIndexer>
