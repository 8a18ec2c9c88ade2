// What has become of a question, in one line on stderr: updated in place on a terminal, otherwise a line for each change.
import type { Question } from '../protocol/rows.ts'
import type { Io } from './output.ts'

/**
 * A question's state. `last_seen`: when something last worked for the citizen; null: never; undefined: not known. `question` is
 * undefined if the message is no question any more.
 */
export type Standing = { question: Question | undefined; listening: boolean; last_seen?: string | null | undefined }

/** Returns a time span in its largest unit. */
const spanOf = (ms: number): string => {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h`
  return `${Math.floor(seconds / 86_400)} days`
}

/** Returns when something last worked for a citizen. */
export const seenOf = (last_seen: string | null, now = Date.now()): string =>
  last_seen === null ? 'never seen' : `last seen ${spanOf(now - Date.parse(last_seen))} ago`

export const lineOf = (citizen: string, { question, listening, last_seen }: Standing, now = Date.now()): string => {
  const name = citizen.charAt(0).toUpperCase() + citizen.slice(1)
  if (!question) return `${name} has written since, without naming this question`
  const { state, attempt, since } = question
  const passed = now - Date.parse(since)
  const time = passed < 1000 ? '' : ` for ${spanOf(passed)}`
  if (state === 'working') return `working${time}${attempt > 1 ? `, attempt ${attempt}` : ''}`
  if (state !== 'waiting') return state
  const tried = attempt > 0 ? ` after ${attempt} ${attempt === 1 ? 'attempt' : 'attempts'}` : ''
  if (listening) return `waiting${time}${tried}: ${name} is connected`
  return `waiting${tried}: ${name} is not connected${last_seen === undefined ? '' : ` (${seenOf(last_seen, now)})`}`
}

type Screen = { isTTY: boolean; columns: number; write(text: string): unknown }

export const makeStateLine = (io: Io, citizen: string, stderr: Screen = process.stderr) => {
  const inPlace = stderr.isTTY && !io.json && process.env['TERM'] !== 'dumb'
  let standing: Standing | undefined
  let known = ''
  let drawn = false
  let hidden = false

  const draw = (): void => {
    if (!standing || hidden) return
    const line = lineOf(citizen, standing).slice(0, Math.max(1, (stderr.columns || 80) - 1))
    // The cursor returns to the start: whatever is printed next replaces the line.
    stderr.write(`${io.paint('dim', line)}\x1b[K\r`)
    drawn = true
  }
  const clear = (): void => {
    if (drawn) stderr.write('\x1b[K')
    drawn = false
  }
  const timer = inPlace ? setInterval(draw, 1000) : undefined

  return {
    show(now: Standing): void {
      const { question, listening, last_seen } = now
      const what = JSON.stringify([question?.state, question?.attempt, question?.answer, listening])
      standing = now
      if (inPlace) draw()
      else if (what !== known && io.json && question)
        io.print('', { event: 'question', ...question, listening, last_seen })
      else if (what !== known) io.note(lineOf(citizen, now))
      known = what
    },
    /** Hides the line while something else is on the screen. */
    hide(on: boolean): void {
      hidden = on
      if (on) clear()
      else if (inPlace) draw()
    },
    stop(): void {
      clearInterval(timer)
      hidden = true
      clear()
    },
  }
}
