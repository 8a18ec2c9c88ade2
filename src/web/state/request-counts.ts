// The numbers of a mission's open requests by the citizen that asks, live. The server counts them with the seq that the numbers hold at;
// from then on the events of the topic count, each once.
import type { Deck, OpenRequests, Request } from '../../client/index.ts'

/** Shared by all missions. */
export type Asking = {
  deck: Deck
  /** whether the user may answer requests */
  answers: boolean
  /** A request was made or has ended. undefined: the mission's requests must be read again. */
  onRequest(mission: string, request: Request | undefined): void
}
type Options = {
  mission: string
  until: AbortSignal
  /** Requests the numbers again. */
  recount(): void
  /** A citizen's number may have changed. */
  changed(citizen: string): void
}

export const makeRequestCounts = (
  { deck, answers, onRequest }: Asking,
  { mission, until, recount, changed }: Options,
) => {
  let counts = new Map<string, number>()
  /** the latest seq that is counted; undefined before the first count */
  let head: number | undefined
  let followed = false

  const listen = async (): Promise<void> => {
    for await (const event of deck.requests(mission).follow({ after: head ?? 0, signal: until })) {
      if (event.event === 'reset') {
        // The epoch changed. The requests are followed again after the next count.
        const before = [...counts.keys()]
        counts = new Map()
        head = undefined
        before.forEach(changed)
        onRequest(mission, undefined)
        return recount()
      }
      const { seq, data } = event
      if (seq > (head ?? 0)) {
        head = seq
        const by = data.state === 'open' ? 1 : -1
        if (answers) counts.set(data.citizen, Math.max(0, (counts.get(data.citizen) ?? 0) + by))
        changed(data.citizen)
      }
      onRequest(mission, data)
    }
  }
  const follow = (): void => {
    if (followed || head === undefined) return
    followed = true
    void listen()
      .catch(() => {})
      .then(() => (followed = false))
  }

  return {
    /** Whether the mission has, or may have, requests. */
    any: (): boolean => head !== 0,
    of: (citizen: string): number => counts.get(citizen) ?? 0,
    citizens: (): string[] => [...counts].flatMap(([citizen, count]) => (count > 0 ? [citizen] : [])),
    /** Takes the server's numbers, unless events have reported later ones. */
    put({ last_seq, open }: OpenRequests): void {
      if (last_seq < (head ?? 0)) return
      head = last_seq
      if (answers) counts = new Map(open.map(({ citizen, count }) => [citizen, count]))
    },
    follow,
  }
}
export type RequestCounts = ReturnType<typeof makeRequestCounts>
