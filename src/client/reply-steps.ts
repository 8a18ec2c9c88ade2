// The steps of a reply, as its writer shows them: those that the server has not received yet, and those to send again after a reconnect.
import type { Activity } from '../protocol/activity.ts'
import { newKey } from './async.ts'

export type StepStatus = Activity['status']
/** A step of a reply: what its writer does. The calls without a line keep the line. */
export type Step = {
  /** Changes the line; the step goes on. */
  update(line: string): void
  /** The step has succeeded. */
  done(line?: string): void
  /** The step has failed. */
  failed(line?: string): void
}

/** The server keeps so many steps of a reply. */
const most = 50
/** Characters of a line: a longer one is shortened. */
const mostChars = 200

/**
 * `onReport` is called when there is something to send. `again`: ms after which a running step is sent again: it is a sign of life for a draft
 * that does not grow.
 */
export const makeSteps = (onReport: () => void, again = 20_000) => {
  const steps = new Map<string, Activity>()
  const unsent = new Set<string>()
  let timer: ReturnType<typeof setTimeout> | undefined
  let over = false

  const report = (id: string): void => {
    if (over) return
    unsent.add(id)
    onReport()
  }
  const rest = (): void => {
    clearTimeout(timer)
    const last = [...steps.values()].findLast(({ status }) => status === 'running')
    if (last && !over) timer = setTimeout(() => report(last.id), again)
  }

  return {
    add(text: string, first: StepStatus): Step {
      const id = newKey()
      const set = (line: string | undefined, status: StepStatus): void => {
        const before = steps.get(id)
        const chars = line === undefined ? undefined : [...line]
        const shown = chars && chars.length > mostChars ? `${chars.slice(0, mostChars - 1).join('')}…` : line
        const step = { id, line: shown ?? before?.line ?? '', status }
        if (before?.line === step.line && before.status === status) return
        steps.set(id, step)
        for (const oldest of steps.keys()) {
          if (steps.size <= most) break
          steps.delete(oldest)
          unsent.delete(oldest)
        }
        report(id)
      }
      set(text, first)
      return {
        update: (line) => set(line, 'running'),
        done: (line) => set(line, 'done'),
        failed: (line) => set(line, 'failed'),
      }
    },
    /** The next step to send; undefined if the server has all. */
    next(): Activity | undefined {
      for (const id of unsent) return steps.get(id)
      return undefined
    },
    /** The number of steps that the server has not received. */
    count: (): number => unsent.size,
    /** The server has received a step, unless it has changed since. */
    sent(step: Activity): void {
      if (steps.get(step.id) === step) unsent.delete(step.id)
      rest()
    },
    /** The server may have lost steps: all are sent again. */
    repeat(): void {
      for (const id of steps.keys()) unsent.add(id)
    },
    end(): void {
      over = true
      clearTimeout(timer)
    },
  }
}
