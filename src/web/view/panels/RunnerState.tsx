// Who has a run that is running, or that nobody does, with a button that cancels it.
import { useSignal } from '@preact/signals'
import { useEffect, useMemo } from 'preact/hooks'
import type { RunTask } from '../../../client/index.ts'
import { secondsOf } from '../../format.ts'
import { wordsOf } from '../../state/online.ts'
import type { Runs } from '../../state/runs.ts'

export const runnerText = (task: RunTask | null): string => {
  if (!task) return 'started by a program, which reports its end'
  const { state, citizen, attempt, since, cancelled, listening } = task
  const again = attempt > 1 ? `, attempt ${attempt}` : ''
  if (state === 'working')
    return `run by ${citizen} since ${secondsOf(since)}${again}${cancelled ? ': asked to stop' : ''}`
  return listening ? `waiting for a runner${attempt > 0 ? ' to try again' : ''}` : 'waiting: no runner is connected'
}

export const RunnerState = ({ runs, id }: { runs: Runs; id: string }) => {
  const watch = useMemo(() => runs.runner(id), [runs, id])
  useEffect(() => watch.close, [watch])
  const refusal = useSignal('')
  const cancelling = useSignal(false)
  const task = watch.task.value
  if (task === undefined) return null
  const cancel = async (): Promise<void> => {
    refusal.value = ''
    cancelling.value = true
    try {
      await watch.cancel()
    } catch (error) {
      refusal.value = wordsOf(error)
    }
    cancelling.value = false
  }
  return (
    <p class="runner">
      <span role="status">{runnerText(task)}</span>{' '}
      {!task?.cancelled && (
        <button type="button" class="small" disabled={cancelling.value} onClick={() => void cancel()}>
          Cancel
        </button>
      )}
      {refusal.value && (
        <span class="failure" role="alert">
          {refusal.value}
        </span>
      )}
    </p>
  )
}
