// Notices a connection that leads nowhere: by the time since the last frame, and by pings that get no answer.
import { makeTimer } from './async.ts'

/** ms that the server may take for an answer, unless the caller gave a patience of its own */
const defaultPatience = 10_000

export const makeHeartbeat = (options: {
  /** ms without any frame after which the connection is dead; after half of it a ping is sent */
  silence: number
  /** ms that the server may take for any frame after a request; as long as `silence` if left out */
  patience: number | undefined
  ping: () => void
  /** whether a request waits for its answer */
  waiting: () => boolean
  dead: () => void
}) => {
  const { silence, patience, ping, waiting, dead } = options
  const pulse = makeTimer()
  const verdict = makeTimer()
  const halfway = makeTimer()
  let deadline = 0
  let pinged = false
  let received = 0
  let watching = false

  const beat = (): void => {
    pulse.start(silence / 30, beat)
    const left = deadline - Date.now()
    if (left < 0) dead()
    else if (left < silence / 2 && !pinged) {
      pinged = true
      ping()
      requested()
    }
  }

  /** Sends a ping: if no frame comes within so many ms, the connection is dead. */
  const check = (ms = patience ?? defaultPatience): void => {
    const [before, due] = [received, Date.now() + ms]
    ping()
    verdict.start(ms, () => {
      if (received > before) return
      // A page that was suspended could not receive anything: it can now.
      if (Date.now() - due > ms / 2) check(ms)
      else dead()
    })
  }

  /** A request was sent: if no frame comes in half of the patience, the connection is checked. */
  const requested = (): void => {
    if (patience === undefined || watching) return
    watching = true
    const before = received
    halfway.start(patience / 2, () => {
      watching = false
      if (!waiting()) return
      if (received === before) check(patience / 2)
      else requested()
    })
  }

  return {
    start: beat,
    stop(): void {
      for (const timer of [pulse, verdict, halfway]) timer.stop()
      watching = false
    },
    /** A frame was received. */
    received(): void {
      deadline = Date.now() + silence
      pinged = false
      received++
    },
    requested,
    check,
    /** Where the caller gave a patience: checks the connection within half of it. */
    checkSoon: (): void => void (patience !== undefined && check(patience / 2)),
  }
}
