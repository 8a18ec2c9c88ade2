// Detects a dead connection: by the time since the last frame, and by pings without an answer.
import { makeTimer } from './async.ts'

/** ms within which the server must answer a ping, if the caller set no `patience` */
const defaultPatience = 10_000

export const makeHeartbeat = (options: {
  /** ms without any frame after which the connection is dead; after half of it a ping is sent */
  silence: number
  /** ms within which the server must send some frame after a request; if undefined, only `silence` applies */
  patience: number | undefined
  ping: () => void
  /** whether a request has no answer yet */
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

  /** Sends a ping: if no frame arrives within `ms`, the connection is dead. */
  const check = (ms = patience ?? defaultPatience): void => {
    const [before, due] = [received, Date.now() + ms]
    ping()
    verdict.start(ms, () => {
      if (received > before) return
      // The timer is late: the page was suspended and could not receive. Check again.
      if (Date.now() - due > ms / 2) check(ms)
      else dead()
    })
  }

  /** A request was sent: if no frame arrives within half of `patience`, the connection is checked. */
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
    /** If `patience` is set: checks the connection within half of it. */
    checkSoon: (): void => void (patience !== undefined && check(patience / 2)),
  }
}
