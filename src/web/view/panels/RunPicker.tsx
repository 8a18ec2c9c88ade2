// Selects the test run that is shown and the run that it is compared with, and requests a new run.
import type { Signal } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import type { TestRun } from '../../../client/index.ts'
import { dayAndTime } from '../../format.ts'
import type { Runs } from '../../state/runs.ts'
import { Icon } from '../Icon.tsx'

export const statuses = { running: 'Running', passed: 'Passed', failed: 'Failed' } as const

export const labelOf = (run: TestRun): string => `${dayAndTime(run.created_at)} · ${statuses[run.status]}`

type SelectProps = {
  runs: Runs
  label: string
  list: readonly TestRun[]
  value: string
  onChoose: (id: string) => void
  class?: string
  children?: ComponentChildren
}

/** Selects a run; the last option loads older runs. */
const RunSelect = ({ runs, label, list, value, onChoose, children, ...rest }: SelectProps) => (
  <select
    {...rest}
    aria-label={label}
    value={value}
    onChange={(event) => {
      if (event.currentTarget.value === 'more') void runs.load()
      else onChoose(event.currentTarget.value)
    }}
  >
    {children}
    {list.map((run) => (
      <option key={run.id} value={run.id}>
        {labelOf(run)}
      </option>
    ))}
    {runs.more.value && <option value="more">Older runs …</option>}
  </select>
)

type Props = {
  runs: Runs
  /** the run that is shown */
  run: TestRun | undefined
  compared: TestRun | undefined
  /** the ID of the run that it is compared with */
  other: Signal<string>
}

export const RunPicker = ({ runs, run, compared, other }: Props) => {
  const all = runs.runs.value
  const request = async (): Promise<void> => {
    const id = await runs.ask()
    if (id) runs.chosen.value = id
  }
  return (
    <div class="picker">
      {all && all.length > 0 && (
        <RunSelect runs={runs} label="Test run" list={all} value={run?.id ?? ''} onChoose={runs.choose} />
      )}
      <button type="button" onClick={() => void request()}>
        <Icon name="play" /> Run tests
      </button>
      {run && all && all.length > 1 && (
        <RunSelect
          class="other"
          runs={runs}
          label="Compare with"
          list={all.filter(({ id }) => id !== run.id)}
          value={compared?.id ?? ''}
          onChoose={(id) => (other.value = id)}
        >
          <option value="">Compare with …</option>
        </RunSelect>
      )}
    </div>
  )
}
