// Catching up: a seat reads pages of its own from its cursor until it reaches the tail's cursor, and becomes live in that tick.
// Joining, resuming and repairing a gap are this one function.
import { sees } from '../../access/policy.ts'
import type { MissionRights } from '../../protocol/rows.ts'
import { topicParts } from '../../protocol/topics.ts'
import type { Reads } from './catch-up-reads.ts'
import { rightsOf, type Encoded } from './page.ts'
import type { Seat } from './seat.ts'

/** ms before a failed read is repeated */
const retryAfter = 200

export const makeCatchUp = (options: {
  /** where the tail stands in a topic */
  cursor: (topic: string) => number | undefined
  setRights: (mission: string, rights: MissionRights | undefined, asOf: number) => void
  leave: (seat: Seat) => void
  /** Ends a seat whose receiver may not read the mission, or whose mission was deleted. */
  end: (seat: Seat) => void
  onError: (error: unknown) => void
}) => {
  const { leave, end } = options
  let catching = 0

  /** Sends as much of a page as the receiver has room for; false if the seat is gone. */
  const giveSlowly = (seat: Seat, { page, as }: Encoded): boolean => {
    const { bytes, ends } = as(seat.receiver.form)
    for (const [i, end] of ends.entries()) {
      const { seq } = page.events[i] as { seq: number }
      if (seq <= seat.cursor) continue
      const frame = bytes.subarray(ends[i - 1] ?? 0, end)
      if (!seat.receiver.fits(frame.length)) return true
      if (!seat.receiver.send(frame, 1)) {
        leave(seat)
        return false
      }
      seat.cursor = seq
    }
    seat.cursor = Math.max(seat.cursor, page.covered)
    return true
  }

  /**
   * Gives a seat its next page; true if the receiver has no room for the rest, which is then read again: a waiting seat holds no
   * page. (A function of its own, since an async function keeps alive what it held before it waits.)
   */
  const step = async (reads: Reads, seat: Seat, target: number): Promise<boolean> => {
    const { from, encoded: reading } = reads(seat.cursor, seat.asOf)
    const encoded = await reading
    const { mission, asOf, covered } = encoded.page
    options.setRights(topicParts(seat.topic).mission, mission, asOf)
    if (seat.gone) return false
    const rights = rightsOf(encoded.page)
    // The page's rights are of the same snapshot as its rows. If newer rights are known already, the next read decides.
    if (!rights || !sees(seat.receiver.actor, rights)) {
      if (!rights || !mission) end(seat)
      seat.asOf = performance.now()
      return false
    }
    if (covered <= seat.cursor) {
      // Either the page was read for another seat and ends before this one's cursor, or a restore set the topic back, and there is
      // nothing more to catch up with.
      if (from === seat.cursor) seat.cursor = target
      return false
    }
    if (!giveSlowly(seat, encoded)) return false
    if (seat.cursor < covered) return true
    if (!mission) end(seat)
    return false
  }

  const untilLive = async (reads: Reads, seat: Seat): Promise<void> => {
    while (!seat.gone) {
      const target = options.cursor(seat.topic)
      if (target === undefined || seat.cursor >= target) {
        seat.live = true
        return
      }
      try {
        if (await step(reads, seat, target)) await seat.receiver.drained()
      } catch (error) {
        options.onError(error)
        await new Promise((resolve) => setTimeout(resolve, retryAfter))
      }
    }
  }

  return {
    async catchUp(reads: Reads, seat: Seat): Promise<void> {
      seat.live = false
      catching++
      await untilLive(reads, seat)
      catching--
    },
    /** Returns the number of seats that catch up. */
    catching: (): number => catching,
  }
}
