// The ended requests among the rendered messages of a chat, each once.
import { useLayoutEffect, useMemo, useRef } from 'preact/hooks'
import type { ChatState } from '../../state/chat.ts'
import type { Page } from '../../state/pages.ts'
import type { Place } from '../../state/place.ts'
import { placeRequests, type Placed } from '../../place-requests.ts'

const none: Placed = new Map()

/** `shown`: the pages that are rendered. */
export const useAsked = (chat: ChatState, place: Place, shown: readonly number[]) => {
  const { pages, citizen } = chat
  const requests = place.requests(chat.mission)
  const list = requests.list.value
  const cards = requests.cards.value
  /** The same object while it has the same requests, so that unchanged pages are not rendered again. */
  const known = useRef(new Map<string, Placed>()).current

  const ended = useMemo(
    () => list.filter((one) => one.citizen === citizen && one.state !== 'open' && !cards.get(one.id)?.held),
    [list, cards, citizen],
  )
  const messages = shown.flatMap((page) => pages.get(page).messages)
  const first = messages[0]
  const isFirstPage = shown[0] === pages.first()
  const isLastPage = shown.at(-1) === pages.last() && pages.get(pages.last()).known
  const from = isFirstPage ? '' : (pages.get((shown[0] ?? 0) - 1).messages.at(-1) ?? first)?.created_at
  const { before, after } = placeRequests(from === undefined ? [] : ended, messages, from ?? '')
  useLayoutEffect(() => {
    if (first) void requests.backTo(first.created_at)
  })

  return {
    before(page: Page): Placed {
      if (before.size === 0) return none
      const found = page.messages.flatMap(({ seq }) => {
        const placed = before.get(seq)
        return placed ? ([[seq, placed]] as const) : []
      })
      if (found.length === 0) return none
      const name = found.map(([seq, placed]) => `${seq} ${placed.map((one) => `${one.id} ${one.seq}`).join()}`).join()
      const same = known.get(name)
      if (same) return same
      if (known.size > 100) known.clear()
      const made: Placed = new Map(found)
      known.set(name, made)
      return made
    },
    after: isLastPage ? after : [],
  }
}
