// The time machine of a mission: the time as of which one looks, the state then, and a replay that moves both. It changes nothing: all
// that it does is read. Live, it has no time. What is asked for last counts: times that one only passes are left out.
import { batch, signal } from '@preact/signals'
import { DeckError, type TimelineEvent } from '../../client/index.ts'
import { fromMs, isBefore, justAfter, toMs } from '../timestamps.ts'
import { apply, whyNot, type Then } from '../mission-at.ts'
import { makeEvents, rest } from './events.ts'
import { persist } from './online.ts'
import type { Place } from './place.ts'

export const speeds = [1, 2, 5, 10, 30, 60] as const
/** ms between two states that are read: a slider is moved faster than that */
const pause = 250
const perPage = 40
/** Events of a replay that wait for a frame; a page that is not looked at has none. */
const mostWaiting = 1000

export const makeMachine = (place: Place, mission: string) => {
  const { deck } = place
  const ending = new AbortController()
  const { signal: ended } = ending
  const at = signal<string | undefined>(undefined)
  const then = signal<Then | undefined>(undefined)
  /** ms: from before the first event to now */
  const span = signal({ from: 0, to: 0 })
  const playing = signal(false)
  const speed = signal<number>(10)
  const failure = signal('')
  const events = makeEvents(deck, mission, () => place.missions.channels(mission).map(({ citizen }) => citizen), ended)
  void events.load(undefined)
  let citizen = 'rafael'
  let turn = new AbortController()
  let replay: AbortController | undefined

  const explain = (error: unknown): string => whyNot(error, at.peek(), span.peek().from)

  /** The time of the mission, as far as it is told of: a little before its first event, up to now. */
  const measure = async (): Promise<void> => {
    const [{ created_at }, first] = await persist(deck, ended, (signal) =>
      Promise.all([deck.mission(mission).get({ signal }), deck.timeline(mission, { limit: 1, signal }).next()]),
    )
    if (!first.value) return
    const to = toMs(first.value.horizon)
    const begin = first.value.events[0] ? toMs(first.value.events[0].at) : toMs(created_at)
    // A mission that was brought here from elsewhere is older than what happened to it here.
    span.value = { from: Math.max(toMs(created_at), begin - Math.max(1000, (to - begin) / 50)), to }
  }

  const measured = measure().catch((error: unknown) => {
    if (!ended.aborted) failure.value = explain(error)
  })

  const none = (error: unknown): undefined => {
    if (!(error instanceof DeckError) || error.code !== 'not_found') throw error
  }
  const read = async (time: string, signal: AbortSignal): Promise<void> => {
    const there = persist(deck, signal, (signal) => {
      const options = { at: time, signal }
      return Promise.all([
        deck.mission(mission).get(options),
        deck.dod(mission).list(options),
        deck.tests(mission).latest(options).catch(none),
        deck.chat(mission, citizen).history({ ...options, limit: perPage }),
      ])
    })
    const [[found, { items }, run, said]] = await Promise.all([there, events.load(time)])
    signal.throwIfAborted()
    batch(() => {
      failure.value = ''
      then.value = { mission: found, items, run, citizen, messages: said.messages, older: said.has_more }
    })
  }

  let wanted: string | undefined
  let reading: Promise<void> | undefined
  const readOn = async (): Promise<void> => {
    for (let first = true; wanted !== undefined; first = false) {
      if (!first) await rest(pause)
      const time = wanted
      wanted = undefined
      if (time === undefined) return
      const { signal } = turn
      try {
        await read(time, AbortSignal.any([ended, signal]))
      } catch (error) {
        // Whether it is too early is known by where the mission begins.
        await measured
        if (ended.aborted || signal.aborted) continue
        batch(() => {
          failure.value = explain(error)
          then.value = undefined
        })
      }
    }
  }

  const pauseReplay = (): void => {
    replay?.abort()
    replay = undefined
    playing.value = false
  }
  const seek = (time: string): Promise<void> => {
    pauseReplay()
    at.value = time
    wanted = time
    return (reading ??= readOn().finally(() => (reading = undefined)))
  }
  const live = (): void => {
    pauseReplay()
    turn.abort()
    turn = new AbortController()
    wanted = undefined
    batch(() => {
      at.value = undefined
      then.value = undefined
      failure.value = ''
    })
    void events.load(undefined)
    measure().catch(() => {})
  }

  const run = async (signal: AbortSignal): Promise<void> => {
    const from = at.peek() as string
    // What comes within a frame is shown together.
    let waiting: TimelineEvent[] = []
    let frame = 0
    const show = (): void => {
      cancelAnimationFrame(frame)
      frame = 0
      const last = waiting.at(-1)
      if (!last || signal.aborted) return
      const taken = waiting
      waiting = []
      batch(() => {
        at.value = last.at
        if (then.peek()) then.value = taken.reduce(apply, then.peek() as Then)
        events.add(taken)
      })
    }
    for await (const event of deck.replay(mission, { from, speed: speed.peek(), signal })) {
      if (!isBefore(from, event.at)) continue
      waiting.push(event)
      if (waiting.length >= mostWaiting) show()
      else frame ||= requestAnimationFrame(show)
    }
    show()
    // At its end the past is now.
    if (!signal.aborted) live()
  }
  const play = async (): Promise<void> => {
    pauseReplay()
    const mine = (replay = new AbortController())
    playing.value = true
    // Who plays from now sees it from the start.
    if (at.peek() === undefined) at.value = fromMs(span.peek().from)
    if (then.peek() === undefined || events.cut.peek() || reading) {
      wanted = at.peek()
      await (reading ??= readOn().finally(() => (reading = undefined)))
    }
    try {
      if (!mine.signal.aborted && then.peek()) await run(AbortSignal.any([ended, mine.signal]))
    } catch (error) {
      if (!ended.aborted) failure.value = explain(error)
    }
    if (replay === mine) pauseReplay()
  }

  return {
    at,
    then,
    span,
    playing,
    speed,
    failure,
    events,
    seek,
    live,
    play,
    pause: pauseReplay,
    measure: () => void measure().catch(() => {}),
    async pace(times: number): Promise<void> {
      speed.value = times
      if (playing.peek()) await play()
    },
    /** To the event before or after; -> whether there is one. */
    async step(forward: boolean): Promise<boolean> {
      pauseReplay()
      const now = at.peek()
      if (forward && now === undefined) return false
      const bound = now === undefined ? {} : forward ? { from: justAfter(now) } : { to: now }
      try {
        const order = forward ? ('asc' as const) : ('desc' as const)
        const { value } = await persist(deck, ended, (signal) =>
          deck.timeline(mission, { ...bound, order, limit: 1, signal }).next(),
        )
        const event = value?.events[0]
        if (!event) return false
        if (at.peek() !== now) return true
        await seek(event.at)
        return true
      } catch (error) {
        if (!ended.aborted) failure.value = explain(error)
        return false
      }
    },
    /** Whose chat is on show. */
    async show(name: string): Promise<void> {
      if (name === citizen) return
      citizen = name
      const going = playing.peek()
      if (at.peek() === undefined) return
      await seek(at.peek() as string)
      if (going) await play()
    },
    /** Older messages of the chat on show. */
    async more(): Promise<void> {
      const shown = then.peek()
      const first = shown?.messages[0]
      if (!shown || !first) return
      const options = { before: first.seq, limit: perPage }
      const found = await persist(deck, ended, (signal) =>
        deck.chat(mission, shown.citizen).history({ ...options, signal }),
      ).catch((error: unknown) => void (failure.value = explain(error)))
      if (!found) return
      const now = then.peek()
      if (now?.messages[0]?.seq !== first.seq) return
      then.value = {
        ...now,
        messages: [...found.messages, ...now.messages],
        older: found.has_more,
      }
    },
    close(): void {
      pauseReplay()
      ending.abort()
    },
  }
}
export type Machine = ReturnType<typeof makeMachine>

let current: { place: Place; mission: string; machine: Machine } | undefined

/** The machine of the mission on show: one at a time, made when it is looked at and closed when it is left. */
export const machineOf = (place: Place, mission: string): Machine => {
  if (current?.place !== place || current.mission !== mission) {
    current?.machine.close()
    current = { place, mission, machine: makeMachine(place, mission) }
  }
  return current.machine
}
export const leave = (machine: Machine): void => {
  machine.close()
  if (current?.machine === machine) current = undefined
}
