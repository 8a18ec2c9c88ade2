// How much a frame may add to the page. A part that shows text asks for as many elements as it needs, or for work that takes as long; what
// a frame can't give comes in the next ones, the newest part first. So no text, and no number of texts, holds up the page.
import { useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'

/** Elements that one frame adds (measured by test/long/text.ts). */
export const perFrame = 120

type Turn = { need: number; given: number; again: () => void }
const waiting = new Set<Turn>()
const onShown = new Set<() => void>()
let left = perFrame
let frame = 0

const give = (turn: Turn): void => {
  const part = Math.max(0, Math.min(left, turn.need - turn.given))
  turn.given += part
  left -= part
  if (part > 0 || waiting.size > 0) frame ||= requestAnimationFrame(next)
}
const next = (): void => {
  frame = 0
  left = perFrame
  if (waiting.size === 0) for (const tell of onShown) tell()
  for (const turn of [...waiting].reverse()) {
    if (left === 0) break
    give(turn)
    if (turn.given >= turn.need) waiting.delete(turn)
    turn.again()
  }
  if (waiting.size > 0) frame ||= requestAnimationFrame(next)
}

/** Whether all that is to be shown is there: heights and places hold from then on. */
export const allShown = (): boolean => waiting.size === 0
/** Calls back when it has become so; returns what ends that. */
export const whenAllShown = (tell: () => void): (() => void) => {
  onShown.add(tell)
  return () => void onShown.delete(tell)
}

/** Asks for elements while a component renders; returns how many it may have by now. It renders again when there are more. */
export const useTurn = (): ((need: number) => number) => {
  const renders = useSignal(0)
  void renders.value
  const turn = useRef<Turn>({ need: 0, given: 0, again: () => void (renders.value = renders.peek() + 1) }).current
  useEffect(() => () => void waiting.delete(turn), [])
  return (need) => {
    turn.need = need
    if (turn.given < need) give(turn)
    if (turn.given < need) {
      waiting.add(turn)
      frame ||= requestAnimationFrame(next)
    } else waiting.delete(turn)
    return Math.min(turn.given, need)
  }
}

/** A value that changes often, once a frame. */
export const useFramed = <T>(value: T): T => {
  const shown = useSignal(value)
  const latest = useRef(value)
  const frame = useRef(0)
  latest.current = value
  useEffect(() => {
    if (value === shown.peek()) return
    frame.current ||= requestAnimationFrame(() => {
      frame.current = 0
      shown.value = latest.current
    })
  }, [value])
  useEffect(() => () => cancelAnimationFrame(frame.current), [])
  return shown.value
}
