// Builds the blocks that filters look up (db/functions/search.sql) in the background. Searches scan messages that have no block yet. One
// instance builds at a time, for at most a tenth of the time, so that writers at full speed and imports keep the machine.
import type pg from 'pg'

/** ms until a turn ends that its holder does not renew, and after which it is renewed. */
const [turnLasts, renewAfter] = [20_000, 5000]
/** A pause is this many times as long as the preceding work. */
const rest = 9
/** Messages of a part of a block, and blocks that are rebuilt by one statement: 2 ms, and some 15 ms each. */
const [part, rebuilt] = [50, 1]

type Chat = { mission_id: string; citizen: string }

/** `every`: ms between two checks for blocks that are due. */
export const makeIndexer = (writes: pg.Pool, instance: string, onError: (error: unknown) => void, every: number) => {
  let timer: NodeJS.Timeout | undefined
  let closed = false
  let waiting: Chat[] = []
  /** the chat of which a block is begun */
  let begun: Chat | undefined
  let renewedAt = -Infinity

  const mine = async (): Promise<boolean> => {
    const now = performance.now()
    if (now - renewedAt < renewAfter) return true
    const { rowCount } = await writes.query({
      name: 'search-turn',
      text: `update deck.search_turn set holder = $1, until = clock_timestamp() + $2 * interval '1 ms'
             where holder = $1 or until < clock_timestamp()`,
      values: [instance, turnLasts],
    })
    const held = (rowCount ?? 0) > 0
    if (held) renewedAt = now
    return held
  }

  const mend = async (): Promise<boolean> => {
    const { rows } = await writes.query<{ more: boolean }>({
      name: 'search-mend',
      text: 'select deck.search_mend($1) as more',
      values: [rebuilt],
    })
    return rows[0]?.more === true
  }
  const add = async (): Promise<boolean> => {
    if (!begun && waiting.length === 0) {
      const { rows } = await writes.query<Chat>({
        name: 'search-due',
        text: 'select mission_id, citizen from deck.search_due()',
      })
      waiting = rows
    }
    const chat = begun ?? waiting.pop()
    begun = undefined
    if (!chat) return false
    const { rows } = await writes.query<{ whole: boolean | null }>({
      name: 'search-slice',
      text: 'select deck.search_slice($1, $2, $3) as whole',
      values: [chat.mission_id, chat.citizen, part],
    })
    if (rows[0]?.whole === false) begun = chat
    // Other chats get their turn first.
    if (rows[0]?.whole === true) waiting.unshift(chat)
    return begun !== undefined || waiting.length > 0
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
    const mended = !begun && (await attempt(mend))
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
