// The mission's test runs: the selected run, its differences to another run, and its log (RunPicker, RunResult, RunLog).
import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { dayAndTime } from '../../format.ts'
import type { Place } from '../../state/place.ts'
import { Reading } from '../chat/Reading.tsx'
import { later } from '../later.tsx'
import { RunLog } from './RunLog.tsx'
import { labelOf, RunPicker } from './RunPicker.tsx'
import { RunnerState } from './RunnerState.tsx'
import { RunResult } from './RunResult.tsx'

const Diff = later(() => import('./Diff.tsx').then((part) => part.Diff))

type Props = { place: Place; mission: string; wide: boolean }

export const Tests = ({ place, mission, wide }: Props) => {
  const runs = place.runs(mission)
  const { chosen } = runs
  /** the run that it is compared with */
  const other = useSignal('')
  const all = runs.runs.value
  const wanted = chosen.value
  /** the run that was shown first: it stays when a new one begins */
  const reading = useSignal('')
  const newest = all?.[0]
  const onShow = wanted || reading.value
  const run = all?.find(({ id }) => id === onShow) ?? (wanted ? undefined : newest)
  useEffect(() => void (reading.value = run?.id ?? ''), [run?.id])
  // A run that is not in the list is loaded.
  useEffect(() => {
    if (all && wanted && !all.some(({ id }) => id === wanted)) void runs.read(wanted)
  }, [all, wanted])
  const compared = all?.find(({ id }) => id === other.value && id !== run?.id)

  return (
    <div class="tests">
      <RunPicker runs={runs} run={run} compared={compared} other={other} />
      {run && newest && newest.id !== run.id && newest.created_at > run.created_at && (
        <p class="muted" role="status">
          A newer run: {labelOf(newest)}{' '}
          <button type="button" class="small" onClick={() => runs.choose(newest.id)}>
            Show it
          </button>
        </p>
      )}
      {runs.failure.value && (
        <p class="failure" role="alert">
          {runs.failure.value}
        </p>
      )}
      {!run && (all && !wanted ? <p class="muted empty">No test runs yet.</p> : <Reading what="the runs" />)}
      {run && compared && (
        <section class="compared">
          <h2>
            What changed
            <button type="button" class="small" onClick={() => (other.value = '')}>
              Close
            </button>
          </h2>
          <p class="muted">
            from {dayAndTime(compared.created_at)} to {dayAndTime(run.created_at)}
          </p>
          <Diff
            key={`${compared.id} ${run.id}`}
            place={place}
            mission={mission}
            from={compared.id}
            to={run.id}
            wide={wide}
            stamp={`${compared.seq} ${run.seq}`}
          />
        </section>
      )}
      {run && (
        <>
          <RunResult place={place} run={run} />
          {run.status === 'running' && <RunnerState key={`of ${run.id}`} runs={runs} id={run.id} />}
          <RunLog key={run.id} runs={runs} id={run.id} />
        </>
      )}
    </div>
  )
}
