// Searches a chat: a page of matches in order of seq, the best of the newest matches, or all matches as a stream. database/search/chat-scan
// finds them. All pages together use one connection at a time, and so do all streams.
import type pg from 'pg'
import { deny } from '../../protocol/errors.ts'
import type { Filters } from '../../protocol/filters.ts'
import type { Message, MissionRights } from '../../protocol/rows.ts'
import { mostMatches, snippetOf } from '../../protocol/snippet.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import { answerBytes } from '../bounds.ts'
import type { ReplayPage } from '../read/replay-page.ts'
import { spansOfAll } from './highlight.ts'
import { makeTurns, type Turn, type Turns } from '../postgres/mutex.ts'
import { makeWalk, type Bounds, type Step } from './chat-scan.ts'

/** The number of newest matches that are ranked. */
export const mostRanked = 1000

type Ranked = { message: Message; rank: number }
/** `byRank`: the best messages first instead of in order of seq. `highlight`: each message with a snippet. */
export type Manner = { byRank?: boolean; highlight?: boolean }

const sizeOf = ({ message, code_blocks }: Message): number =>
  message.length + (code_blocks?.reduce((sum, { code }) => sum + code.length, 0) ?? 0)

/** Keeps the best of the added messages, up to `limit` and the size of a page. */
const makeBest = (limit: number) => {
  const best: Ranked[] = []
  // The best rank among the dropped messages. Later messages with the same or a lower rank are dropped, too.
  let out = -1
  return {
    best,
    add(message: Message, rank: number): void {
      if (rank <= out) return
      // (Messages are added newest first.)
      const at = best.findIndex((other) => other.rank < rank)
      best.splice(at < 0 ? best.length : at, 0, { message, rank })
      let bytes = 0
      const end = best.findIndex((one, i) => i === limit || ((bytes += sizeOf(one.message)) > answerBytes && i > 0))
      if (end < 0) return
      out = best[end]?.rank ?? out
      best.length = end
    },
  }
}

/** `main` is for reads; `turns`: the queues shared by all pages; `patience`: ms until a page's search times out. */
export const makeSearch = (main: pg.Pool, turns: Turns, patience: number) => {
  const streaming = makeTurns()

  const begin = makeWalk(main)

  return {
    /**
     * Returns a page of matches in the form of database/read/chat-history. `sub`: the user. `allow` throws if the user may not read the
     * mission. Rejects with `unavailable` if `gone` returns true or after `patience`.
     */
    async page(
      ref: MissionRef,
      citizen: string,
      query: Filters & Bounds & { limit: number },
      how: { sub: string; allow(mission: MissionRights | undefined): void; gone(): boolean },
      { byRank = false, highlight = false }: Manner = {},
    ) {
      const end = performance.now() + patience
      const forward = query.after !== undefined && !byRank
      const check = (): void => {
        if (how.gone()) throw deny('unavailable', 'the client disconnected before the search finished')
        if (performance.now() > end)
          throw deny('unavailable', 'the search timed out: narrow it with since, until, after or before')
      }
      const turn = turns(how.sub)
      const inTurn: Turn = (work) =>
        turn(() => {
          check()
          return work()
        })
      const walk = await begin(ref, citizen, query, forward, inTurn, byRank)
      const { words, head: last_seq, epoch } = walk
      let messages: Message[] = []
      how.allow(walk.mission)
      let has_more = false
      let bytes = 0
      let looked = 0
      const { best, add } = makeBest(query.limit)
      while (!has_more && !walk.done()) {
        check()
        const found = await walk.step()
        how.allow(found.mission)
        for (const message of found.messages) {
          if (byRank) {
            has_more = looked === mostRanked
            if (has_more) break
            looked++
            add(message, found.ranks.get(message.seq) ?? 0)
            continue
          }
          const size = sizeOf(message)
          has_more = messages.length === query.limit || (messages.length > 0 && bytes + size > answerBytes)
          if (has_more) break
          bytes += size
          messages.push(message)
        }
      }
      if (byRank) {
        messages = best.map(({ message }) => message)
        has_more ||= best.length < looked
      } else if (!forward) messages.reverse()
      if (!highlight || !words) return { messages, last_seq, has_more, epoch }
      check()
      const spans = await inTurn(() =>
        spansOfAll(
          words.marked,
          messages.map(({ message }) => message),
        ),
      )
      const shown = messages.map((message, i) => {
        const hits = spans[i] ?? []
        return { ...message, snippet: { ...snippetOf(message.message, hits), matches: hits.slice(0, mostMatches) } }
      })
      return { messages: shown, last_seq, has_more, epoch }
    },

    /** Returns all matches between two seqs as pages. Some pages are empty, so that rights are checked throughout. */
    async from(ref: MissionRef, citizen: string, query: Filters & Bounds, sub: string): Promise<ReplayPage> {
      const walk = await begin(ref, citizen, query, true, streaming(sub))
      const { head, epoch } = walk
      const page = ({ mission, messages }: Step): ReplayPage =>
        mission && !walk.done()
          ? { mission, messages, head, epoch, next: async () => page(await walk.step()) }
          : { mission, messages, head, epoch }
      return page({ mission: walk.mission, messages: [], ranks: new Map() })
    },
  }
}
export type Search = ReturnType<typeof makeSearch>
