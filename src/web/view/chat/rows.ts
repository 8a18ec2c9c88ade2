// Scrolls a chat: pages of messages have positions in a track that is as high as the whole chat. When something above the visible rows
// changes its height (an estimated page, older pages, an opened code block), the visible rows stay in place. At the bottom, the view
// stays at the bottom. Uses the DOM directly, because heights must be set in the frame in which they are measured.
import type { ChatState } from '../../state/chat.ts'
import { allShown, whenAllShown } from './turns.ts'

/** Pixels above and below the window that are rendered. */
const margin = 900
/** Distance in px up to which the view counts as at the bottom. */
const near = 48

export type Range = { from: number; to: number }
type Anchor = { page: number; seq: number; dy: number }

export const makeScroller = (
  chat: ChatState,
  {
    box,
    track,
    onRange,
    onBottom,
    onSeen,
  }: {
    box: HTMLElement
    track: HTMLElement
    onRange: (range: Range) => void
    onBottom: (atBottom: boolean) => void
    onSeen: (seq: number) => void
  },
) => {
  const { pages } = chat
  let stuck = true
  let anchor: Anchor | undefined
  let range: Range = { from: -1, to: -1 }
  let target: number | undefined

  const elements = (): HTMLElement[] => [...track.children] as HTMLElement[]
  const pageOf = (element: HTMLElement): number => Number(element.dataset['page'])
  const rowsOf = (element: HTMLElement): HTMLElement[] => [...element.querySelectorAll<HTMLElement>('[data-seq]')]

  /** Stores the row at the top and its distance from the top. */
  const remember = (): void => {
    anchor = undefined
    const top = box.scrollTop
    for (const element of elements()) {
      const page = pageOf(element)
      const begin = pages.top(page)
      if (begin + element.offsetHeight <= top) continue
      const row = rowsOf(element).find((one) => begin + one.offsetTop + one.offsetHeight > top)
      if (row) anchor = { page, seq: Number(row.dataset['seq']), dy: begin + row.offsetTop - top }
      return
    }
  }

  const find = (seq: number): number | undefined => {
    const element = elements().find((one) => pageOf(one) === pages.pageOf(seq))
    const row = element && rowsOf(element).find((one) => Number(one.dataset['seq']) >= seq)
    return element && row ? pages.top(pageOf(element)) + row.offsetTop : undefined
  }

  const updateRange = (): void => {
    const top = box.scrollTop - margin
    const next = { from: pages.at(top), to: pages.at(box.scrollTop + box.clientHeight + margin) }
    if (next.from !== range.from || next.to !== range.to) onRange((range = next))
    chat.ensure(next.from - 1, next.to + 1)
  }

  /** Reports the last message that is completely visible. */
  const seen = (): void => {
    // Rows that are not completely rendered are lower than they will be.
    if (document.visibilityState !== 'visible' || !document.hasFocus() || !allShown()) return
    const bottom = box.scrollTop + box.clientHeight
    if (stuck) return onSeen(pages.head)
    const rows = elements().flatMap((element) =>
      rowsOf(element).map(
        (row) => [Number(row.dataset['seq']), pages.top(pageOf(element)) + row.offsetTop + row.offsetHeight] as const,
      ),
    )
    const last = rows.findLast(([, end]) => end <= bottom)
    if (last) onSeen(last[0])
  }

  const stick = (at: boolean): void => {
    if (at !== stuck) onBottom((stuck = at))
  }

  const isAtBottom = (): boolean => box.scrollHeight - box.scrollTop - box.clientHeight < near

  /** Measures the rendered pages, positions them, and keeps the visible rows in place. */
  const layout = (): void => {
    for (const element of elements())
      if (element.dataset['ready'] !== undefined) pages.measure(pageOf(element), element.offsetHeight)
    for (const element of elements()) element.style.top = `${pages.top(pageOf(element))}px`
    track.style.height = `${pages.total()}px`
    if (target !== undefined) {
      const top = find(target)
      box.scrollTop = top === undefined ? pages.top(pages.pageOf(target)) : top - Math.min(120, box.clientHeight / 4)
      if (top !== undefined && allShown()) {
        target = undefined
        stick(isAtBottom())
      }
    } else if (stuck) box.scrollTop = box.scrollHeight
    else if (anchor) {
      const top = find(anchor.seq)
      if (top !== undefined && Math.abs(top - anchor.dy - box.scrollTop) >= 1) box.scrollTop = top - anchor.dy
    }
    remember()
    updateRange()
    seen()
  }

  const onScroll = (): void => {
    if (target === undefined) stick(isAtBottom())
    remember()
    updateRange()
    seen()
  }
  box.addEventListener('scroll', onScroll, { passive: true })
  // The reader's own scrolling cancels a target.
  const inputs = ['wheel', 'touchmove', 'pointerdown', 'keydown']
  const onInput = (): void => void (target = undefined)
  for (const name of inputs) box.addEventListener(name, onInput, { passive: true })
  addEventListener('focus', seen)
  const observer = new ResizeObserver(layout)
  observer.observe(box)
  const forget = whenAllShown(layout)
  const watched = new Set<Element>()

  return {
    /** Call after each render. */
    rendered(footer: HTMLElement | null): void {
      const now = new Set<Element>([...elements(), ...(footer ? [footer] : [])])
      for (const element of watched) if (!now.has(element)) observer.unobserve(element)
      for (const element of now) if (!watched.has(element)) observer.observe(element)
      watched.clear()
      for (const element of now) watched.add(element)
      layout()
    },
    toBottom(): void {
      target = undefined
      stick(true)
      layout()
    },
    /** Shows a message, a little below the top. */
    to(seq: number): void {
      target = Math.min(Math.max(seq, pages.floor + 1), Math.max(1, pages.head))
      stick(false)
      layout()
    },
    close(): void {
      observer.disconnect()
      box.removeEventListener('scroll', onScroll)
      for (const name of inputs) box.removeEventListener(name, onInput)
      forget()
      removeEventListener('focus', seen)
    },
  }
}
export type Scroller = ReturnType<typeof makeScroller>
