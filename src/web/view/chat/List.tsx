// The messages of a chat, with its ended requests at their time. Only the pages near the window are rendered; the others only take their
// height. Drafts and outgoing messages are below them.
import { Fragment } from 'preact'
import { useSignal } from '@preact/signals'
import { useLayoutEffect, useMemo, useRef } from 'preact/hooks'
import type { Message, Request } from '../../../client/index.ts'
import type { Page } from '../../state/pages.ts'
import type { Place } from '../../state/place.ts'
import type { ChatState } from '../../state/chat.ts'
import { count } from '../../format.ts'
import { Footer } from '../Footer.tsx'
import { Icon } from '../Icon.tsx'
import { memo } from '../memo.tsx'
import type { Placed } from '../../place-requests.ts'
import { AskedBetween } from '../requests/parts.tsx'
import { useAsked } from '../requests/asked.ts'
import { makeScroller, type Range, type Scroller } from './rows.ts'
import type { Context } from './context.ts'
import { Row } from './Row.tsx'

const none: readonly Request[] = []

type PageProps = {
  page: Page
  before: Message | undefined
  firstNew: number
  found: number
  sub: string
  /** the requests that stand before a message, by its seq */
  asked: Placed
  context: Context
}

/** A page's rows, rebuilt only if the page changed. */
const Rows = memo(({ page, before, firstNew, found, sub, asked, context }: PageProps) => (
  <>
    {page.messages.map((message, n) => {
      const last = n > 0 ? page.messages[n - 1] : before
      return (
        <Fragment key={message.seq}>
          <AskedBetween requests={asked.get(message.seq) ?? none} context={context} />
          <Row
            message={message}
            before={last}
            isNew={firstNew > 0 && (last ? last.seq < firstNew && message.seq >= firstNew : message.seq === firstNew)}
            found={message.seq === found}
            mine={message.author === sub}
            context={context}
          />
        </Fragment>
      )
    })}
  </>
))

export const List = ({ chat, place }: { chat: ChatState; place: Place }) => {
  const box = useRef<HTMLDivElement>(null)
  const track = useRef<HTMLDivElement>(null)
  const footer = useRef<HTMLDivElement>(null)
  const scroller = useRef<Scroller | undefined>(undefined)
  const range = useSignal<Range>({ from: chat.pages.last(), to: chat.pages.last() })
  const atBottom = useSignal(true)
  const found = useSignal(0)
  /** the chat's latest seq when the reader left the bottom */
  const leftAt = useSignal(0)
  const { pages } = chat
  void chat.version.value

  useLayoutEffect(() => {
    if (!box.current || !track.current) return
    const made = makeScroller(chat, {
      box: box.current,
      track: track.current,
      onRange: (next) => (range.value = next),
      onBottom(at) {
        atBottom.value = at
        leftAt.value = pages.head
      },
      onSeen: chat.read,
    })
    scroller.current = made
    const bottom = (): void => made.toBottom()
    const unread = (): void => void (chat.firstNew.value > 0 && made.to(chat.firstNew.value))
    const keys: Record<string, () => void> = { 'deck-newest': bottom, 'deck-unread': unread }
    for (const [name, work] of Object.entries(keys)) addEventListener(name, work)
    const first = chat.open()
    if (first > 0) made.to(first)
    return () => {
      for (const [name, work] of Object.entries(keys)) removeEventListener(name, work)
      made.close()
    }
  }, [chat])

  useLayoutEffect(() => scroller.current?.rendered(footer.current))

  const context = useMemo<Context>(() => {
    const { mission, citizen, questions, quotes } = chat
    return {
      citizen,
      questions: {
        of: questions.of,
        contact: () => place.citizens.contact(citizen),
        waitsFor: (id) =>
          place.requests(mission).list.value.find(({ task, state }) => task === id && state === 'open')?.title,
        ...(place.who.role === 'citizen' ? {} : { decide: chat.decide }),
      },
      quote: quotes.of,
      jump: (seq) => (place.target.value = { mission, citizen, seq }),
    }
  }, [chat, place])

  const target = place.target.value
  useLayoutEffect(() => {
    if (target?.mission !== chat.mission || target.citizen !== chat.citizen) return
    place.target.value = undefined
    found.value = target.seq
    scroller.current?.to(target.seq)
  }, [target])

  const shown: number[] = []
  for (let page = Math.max(range.value.from, pages.first()); page <= Math.min(range.value.to, pages.last()); page++)
    shown.push(page)
  const asked = useAsked(chat, place, shown)
  const newBelow = atBottom.value ? 0 : pages.head - leftAt.value
  const firstShown = shown[0] ?? 0
  const unreadAbove = chat.firstNew.value > 0 && pages.pageOf(chat.firstNew.value) < firstShown

  return (
    <div class="list">
      <div
        class="scroll"
        ref={box}
        tabIndex={0}
        role="region"
        aria-label={`Messages with ${chat.citizen}`}
        onKeyDown={(event) => {
          // The browser's own scrolling would stop at an estimated height: pages that load meanwhile have different heights.
          if (event.key === 'End') scroller.current?.toBottom()
          else if (event.key === 'Home') scroller.current?.to(pages.floor + 1)
          else return
          event.preventDefault()
        }}
      >
        <div class="track" ref={track}>
          {shown.map((n) => {
            const page = pages.get(n)
            return (
              <div key={n} class="page" data-page={n} data-ready={page.messages.length > 0 ? '' : undefined}>
                <Rows
                  page={page}
                  before={pages.get(n - 1).messages.at(-1)}
                  firstNew={chat.firstNew.value}
                  found={found.value}
                  sub={place.who.sub}
                  asked={asked.before(page)}
                  context={context}
                />
              </div>
            )
          })}
        </div>
        <div ref={footer}>
          <AskedBetween requests={asked.after} context={context} />
          <Footer chat={chat} sub={place.who.sub} />
        </div>
      </div>
      <div class="jumps">
        {unreadAbove && (
          <button type="button" class="jump" onClick={() => scroller.current?.to(chat.firstNew.value)}>
            <Icon name="up" /> First unread
          </button>
        )}
        {!atBottom.value && (
          <button type="button" class="jump" onClick={() => scroller.current?.toBottom()}>
            <Icon name="down" /> {newBelow > 0 ? `${count(newBelow)} new` : 'Newest'}
          </button>
        )}
      </div>
    </div>
  )
}
