// The open requests of a chat, directly above the message field, oldest first. They never take the focus.
import { useLayoutEffect, useMemo, useRef } from 'preact/hooks'
import type { Request } from '../../../client/index.ts'
import { capital } from '../../format.ts'
import type { ChatState } from '../../state/chat.ts'
import type { Place } from '../../state/place.ts'
import type { Context } from '../chat/context.ts'
import { Card } from './Card.tsx'

/** Cards that are rendered. */
const mostCards = 20
/** Milliseconds after the cards changed within which a press of a pointer is not meant: the button was not there before. */
const moving = 400

/** Scrolls to an ended request: it stands below the last message that is older. */
const showEnded = (chat: ChatState, place: Place, { created_at }: Request): void => {
  const { mission, citizen } = chat
  chat.client.history({ until: created_at, limit: 1 }).then(
    ({ messages: [last] }) => {
      if (last) place.target.value = { mission, citizen, seq: last.seq }
    },
    () => {},
  )
}

export const Dock = ({ place, chat }: { place: Place; chat: ChatState }) => {
  const { mission, citizen } = chat
  const requests = place.requests(mission)
  const target = place.card.value
  const cards = requests.cards.value
  const all = requests.list.value.filter(
    (request) => request.citizen === citizen && (request.state === 'open' || cards.get(request.id)?.held),
  )
  /** the request that the reader was led to: shown, however many others there are */
  const led = useRef('')
  if (target?.mission === mission && target.citizen === citizen) led.current = target.id
  const wanted = all.find(({ id }) => id === led.current)
  const first = all.slice(0, mostCards)
  const shown: Request[] = wanted && !first.includes(wanted) ? [...first, wanted] : first
  const moved = useRef(0)
  const ids = shown.map(({ id, state }) => `${id} ${state}`).join()
  useLayoutEffect(() => void (moved.current = performance.now()), [ids])
  const dock = useRef<HTMLElement>(null)
  useLayoutEffect(() => {
    if (target?.mission !== mission || target.citizen !== citizen) return
    const found = requests.list.peek().find(({ id }) => id === target.id)
    if (!found) return requests.want(target.id)
    place.card.value = undefined
    if (!wanted) return showEnded(chat, place, found)
    const card = dock.current?.querySelector<HTMLElement>(`[data-request='${CSS.escape(target.id)}']`)
    card?.focus()
    card?.scrollIntoView({ block: 'nearest' })
  }, [target, requests.list.value])
  // A request that ended at its card stays until it is closed, or the chat is left.
  useLayoutEffect(
    () => () => {
      for (const { id, state } of requests.list.peek())
        if (state !== 'open' && requests.cards.peek().has(id)) requests.release(id)
    },
    [requests, citizen],
  )
  const context = useMemo<Context>(
    () => ({
      citizen,
      quote: chat.quotes.of,
      jump: (seq) => (place.target.value = { mission, citizen, seq }),
    }),
    [chat, place],
  )
  if (shown.length === 0) return null
  return (
    <section
      class="dock"
      ref={dock}
      onClickCapture={(event) => {
        if (event.detail === 0 || performance.now() - moved.current > moving) return
        event.preventDefault()
        event.stopPropagation()
      }}
      tabIndex={place.answers ? undefined : 0}
      aria-label={`Requests of ${capital(citizen)}`}
    >
      {shown.map((request) => (
        <Card key={request.id} request={request} requests={requests} answers={place.answers} context={context} />
      ))}
      {all.length > shown.length && (
        <p class="muted">{all.length - shown.length} more requests follow once these are answered.</p>
      )}
    </section>
  )
}
