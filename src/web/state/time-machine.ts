// A mission's time machine: the time that is shown, the mission's state at that time, and a replay that moves both. It only reads.
// Without a time it shows the present. Only the last requested time is read: times that the slider passes are skipped.
import { batch, signal } from '@preact/signals'
import { fromMs, justAfter } from '../timestamps.ts'
import { apply, whyNot, type MissionAt } from '../mission-at.ts'
import { makeEvents, rest } from './events.ts'
import { persist } from './online.ts'
import type { Place } from './place.ts'
import { playInFrames } from './replay.ts'
import { readSpan, readStateAt } from './state-at.ts'

export const speeds = [1, 2, 5, 10, 30, 60] as const
/** Milliseconds between two reads of a state: a slider moves faster. */
const pause = 250
const perPage = 40

export const makeTimeMachine = (place: Place, mission: string) => {
  const { deck } = place
  const ending = new AbortController()
  const { signal: ended } = ending
  const at = signal<string | undefined>(undefined)
  const state = signal<MissionAt | undefined>(undefined)
  /** from before the first event to now, in ms */
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

  const measure = async (): Promise<void> => {
    const found = await readSpan(deck, mission, ended)
    if (found) span.value = found
  }

  const measured = measure().catch((error: unknown) => {
    if (!ended.aborted) failure.value = explain(error)
  })

  const read = async (time: string, signal: AbortSignal): Promise<void> => {
    const reads = [
      readStateAt(deck, { mission, citizen, at: time, limit: perPage }, signal),
      events.load(time),
    ] as const
    const [found] = await Promise.all(reads)
    signal.throwIfAborted()
    batch(() => {
      failure.value = ''
      state.value = found
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
        // The explanation needs the start of the mission's history.
        await measured
        if (ended.aborted || signal.aborted) continue
        batch(() => {
          failure.value = explain(error)
          state.value = undefined
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
      state.value = undefined
      failure.value = ''
    })
    void events.load(undefined)
    measure().catch(() => {})
  }

  const run = async (signal: AbortSignal): Promise<void> => {
    const from = at.peek() as string
    const replayed = deck.replay(mission, { from, speed: speed.peek(), signal })
    await playInFrames(replayed, { from, signal }, (taken, last) =>
      batch(() => {
        at.value = last.at
        if (state.peek()) state.value = taken.reduce(apply, state.peek() as MissionAt)
        events.add(taken)
      }),
    )
    // The replay has reached the present.
    if (!signal.aborted) live()
  }
  const play = async (): Promise<void> => {
    pauseReplay()
    const mine = (replay = new AbortController())
    playing.value = true
    // A replay that starts in the present begins at the mission's start.
    if (at.peek() === undefined) at.value = fromMs(span.peek().from)
    if (state.peek() === undefined || events.cut.peek() || reading) {
      wanted = at.peek()
      await (reading ??= readOn().finally(() => (reading = undefined)))
    }
    try {
      if (!mine.signal.aborted && state.peek()) await run(AbortSignal.any([ended, mine.signal]))
    } catch (error) {
      if (!ended.aborted) failure.value = explain(error)
    }
    if (replay === mine) pauseReplay()
  }

  return {
    at,
    state,
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
    /** Goes to the previous or next event. Resolves to whether it exists. */
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
    /** Selects the citizen whose chat is shown. */
    async show(name: string): Promise<void> {
      if (name === citizen) return
      citizen = name
      const going = playing.peek()
      if (at.peek() === undefined) return
      await seek(at.peek() as string)
      if (going) await play()
    },
    /** Loads older messages of the chat. */
    async more(): Promise<void> {
      const shown = state.peek()
      const first = shown?.messages[0]
      if (!shown || !first) return
      const options = { before: first.seq, limit: perPage }
      const found = await persist(deck, ended, (signal) =>
        deck.chat(mission, shown.citizen).history({ ...options, signal }),
      ).catch((error: unknown) => void (failure.value = explain(error)))
      if (!found) return
      const now = state.peek()
      if (now?.messages[0]?.seq !== first.seq) return
      state.value = {
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
export type TimeMachine = ReturnType<typeof makeTimeMachine>

let current: { place: Place; mission: string; timeMachine: TimeMachine } | undefined

/** Returns the mission's time machine. Only one is open at a time. */
export const timeMachineOf = (place: Place, mission: string): TimeMachine => {
  if (current?.place !== place || current.mission !== mission) {
    current?.timeMachine.close()
    current = { place, mission, timeMachine: makeTimeMachine(place, mission) }
  }
  return current.timeMachine
}
export const leave = (timeMachine: TimeMachine): void => {
  timeMachine.close()
  if (current?.timeMachine === timeMachine) current = undefined
}
