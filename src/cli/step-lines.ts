// The steps of a reply as lines: one for each step that is new or has changed.
import type { Activity } from '../protocol/activity.ts'
import { plain } from './output.ts'

const marks = { running: '·', done: '✓', failed: '✗' } as const

export const makeStepLines = () => {
  let shown = new Map<string, string>()
  /** Returns the lines of the steps that have changed since the last call. */
  return (steps: readonly Activity[] = []): string[] => {
    const now = new Map(
      steps.map(({ id, line, status }) => [id, `${marks[status]} ${plain(line).replaceAll('\n', ' ')}`]),
    )
    const lines = [...now].flatMap(([id, line]) => (shown.get(id) === line ? [] : [line]))
    shown = now
    return lines
  }
}
