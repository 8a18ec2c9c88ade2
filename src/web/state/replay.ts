// Plays a replay on the page: the events that arrive within one frame are shown together.
import type { TimelineEvent } from '../../client/index.ts'
import { isBefore } from '../timestamps.ts'

/** At most this many events wait for a frame; a page in the background has no frames. */
const mostWaiting = 1000

/** Shows the events after `from`, and resolves after the last; an aborted replay shows no more. */
export const playInFrames = async (
  events: AsyncIterable<TimelineEvent>,
  { from, signal }: { from: string; signal: AbortSignal },
  show: (events: TimelineEvent[], last: TimelineEvent) => void,
): Promise<void> => {
  let waiting: TimelineEvent[] = []
  let frame = 0
  const flush = (): void => {
    cancelAnimationFrame(frame)
    frame = 0
    const last = waiting.at(-1)
    if (!last || signal.aborted) return
    const taken = waiting
    waiting = []
    show(taken, last)
  }
  for await (const event of events) {
    if (!isBefore(from, event.at)) continue
    waiting.push(event)
    if (waiting.length >= mostWaiting) flush()
    else frame ||= requestAnimationFrame(flush)
  }
  flush()
}
