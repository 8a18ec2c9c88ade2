// The time machine's controls: a slider over the mission's time, steps between events, play, pause and speed, and back to live.
import { useEffect } from 'preact/hooks'
import { fromMs, toMs } from '../../timestamps.ts'
import { speeds, type TimeMachine } from '../../state/time-machine.ts'
import { fullTime, secondsOf, shortDay } from '../../format.ts'
import { Icon } from '../Icon.tsx'

/** Positions of the slider. */
const steps = 1000

export const Controls = ({ timeMachine }: { timeMachine: TimeMachine }) => {
  const { at, span, playing, speed } = timeMachine
  const { from, to } = span.value
  const now = at.value
  const place = now === undefined || to <= from ? steps : Math.round(((toMs(now) - from) / (to - from)) * steps)
  const label = now === undefined ? 'Live' : fullTime(now)
  const seek = (value: number): void => {
    if (value >= steps) timeMachine.live()
    else void timeMachine.seek(fromMs(from + ((to - from) * value) / steps))
  }
  const toggle = (): void => {
    if (playing.peek()) timeMachine.pause()
    else void timeMachine.play()
  }
  const step = async (forward: boolean): Promise<void> => {
    if (!(await timeMachine.step(forward)) && forward) timeMachine.live()
  }
  useEffect(() => {
    const acts: Record<string, () => void> = {
      'deck-play': toggle,
      'deck-back': () => void step(false),
      'deck-forth': () => void step(true),
      'deck-live': timeMachine.live,
    }
    for (const [name, act] of Object.entries(acts)) addEventListener(name, act)
    return () => {
      for (const [name, act] of Object.entries(acts)) removeEventListener(name, act)
    }
  }, [timeMachine])
  return (
    <div class="time-machine">
      <input
        id="time"
        type="range"
        min={0}
        max={steps}
        step={1}
        value={Math.min(steps, Math.max(0, place))}
        aria-label="Time of the mission"
        aria-valuetext={label}
        disabled={to <= from}
        onFocus={timeMachine.measure}
        onInput={(event) => seek(Number(event.currentTarget.value))}
        onKeyDown={(event) => {
          if (event.key !== ' ') return
          event.preventDefault()
          toggle()
        }}
      />
      <div class="ends" aria-hidden="true">
        <span>{from > 0 ? `${shortDay(fromMs(from))}, ${secondsOf(fromMs(from))}` : '\u00a0'}</span>
        <span>now</span>
      </div>
      <div class="knobs">
        <button type="button" onClick={() => void step(false)} aria-label="Previous event" title="Previous event (,)">
          <Icon name="back" />
        </button>
        <button type="button" class="play" onClick={toggle} title="Play, pause (Space)">
          <Icon name={playing.value ? 'pause' : 'play'} /> {playing.value ? 'Pause' : 'Play'}
        </button>
        <button
          type="button"
          onClick={() => void step(true)}
          disabled={now === undefined}
          aria-label="Next event"
          title="Next event (.)"
        >
          <Icon name="forth" />
        </button>
        <select
          aria-label="Speed"
          value={speed.value}
          onChange={(event) => void timeMachine.pace(Number(event.currentTarget.value))}
        >
          {speeds.map((times) => (
            <option key={times} value={times}>
              {times}×
            </option>
          ))}
        </select>
        <button
          type="button"
          class="tolive"
          disabled={now === undefined}
          onClick={timeMachine.live}
          aria-label={now === undefined ? 'Live' : 'Back to live'}
          title="Back to now (Esc)"
        >
          <span class="lamp" /> Live
        </button>
      </div>
    </div>
  )
}
