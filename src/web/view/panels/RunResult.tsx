// A test run's result: its verdict, sums and figures, and each test with its error. A button quotes failures in a message to Rafael.
import { useSignal } from '@preact/signals'
import { useEffect, useMemo } from 'preact/hooks'
import type { TestRun } from '../../../client/index.ts'
import { fence } from '../../markdown.ts'
import { figuresOf, reasonOf, resultsOf, sumsOf, type Result } from '../../results.ts'
import type { Place } from '../../state/place.ts'
import { go, route } from '../../state/route.ts'
import { dayAndTime, fullTime, percent } from '../../format.ts'
import { Icon } from '../Icon.tsx'
import { statuses } from './RunPicker.tsx'

/** Results shown at first and added by each click on *more results*; characters of an error. */
const [mostResults, mostError] = [200, 20_000]

/** The message to Rafael, with the failures quoted. */
const question = (run: TestRun, failed: Result[]): string => {
  const quoted = failed
    .slice(0, 5)
    .map(({ name, error }) => `> **${name}** failed\n\n${error ? fence(error.slice(0, 1500), 'text') : ''}`)
  const more = failed.length > 5 ? `\nand ${failed.length - 5} more\n` : ''
  return `The run of ${dayAndTime(run.created_at)} failed. Can you fix this?\n\n${quoted.join('\n')}${more}`
}

const askRafael = (place: Place, run: TestRun, failed: Result[]): void => {
  const { outgoing } = place.chat(run.mission_id, 'rafael')
  const before = outgoing.text.peek()
  outgoing.write(`${before}${before ? '\n\n' : ''}${question(run, failed)}`)
  go({ mission: route.peek().mission, citizen: 'rafael', view: 'chat' })
  // After the chat is rendered.
  requestAnimationFrame(() => document.getElementById('composer')?.focus())
}

export const RunResult = ({ place, run }: { place: Place; run: TestRun }) => {
  const results = useMemo(() => resultsOf(run), [run])
  const shown = useSignal(mostResults)
  useEffect(() => void (shown.value = mostResults), [run.id])
  const failed = results.filter(({ ok }) => !ok)
  return (
    <>
      <p class={`verdict ${run.status}`} role="status">
        <b>{statuses[run.status]}</b>
        <time dateTime={run.created_at} title={fullTime(run.created_at)}>
          {dayAndTime(run.created_at)}
        </time>
      </p>
      {reasonOf(run.summary) && <p class="reason">{reasonOf(run.summary)}</p>}
      {sumsOf(run.summary).map(({ name, passed, total }) => (
        <div class="progress" key={name}>
          <span class="kind">{name}</span>
          <progress max={total || 1} value={passed} aria-label={name} class={passed < total ? 'short' : ''} />
          <span>
            {passed}/{total} <span class="muted">{percent(passed, total)}</span>
          </span>
        </div>
      ))}
      <dl class="figures">
        {figuresOf(run.summary).map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {failed.length > 0 && (
        <button type="button" class="primary" onClick={() => askRafael(place, run, failed)}>
          Ask Rafael to fix {failed.length === 1 ? 'it' : `all ${failed.length}`}
        </button>
      )}
      {results.length > 0 && (
        <ul class="results-list">
          {results.slice(0, shown.value).map((result, n) => (
            <li key={n} class={result.skipped ? '' : result.ok ? 'ok' : 'bad'}>
              <span class="mark">
                <Icon name={result.skipped ? 'open' : result.ok ? 'check' : 'close'} />
                <span class="unseen">{result.skipped ? 'skipped' : result.ok ? 'passed' : 'failed'}</span>
              </span>
              <span class="what">
                <code>{result.name}</code>
                {result.skipped && <span class="muted">skipped</span>}
                {result.figures.length > 0 && <span class="muted">{result.figures.join(' · ')}</span>}
                {result.error && (
                  <pre tabIndex={0} role="group" aria-label={`Error of ${result.name}`}>
                    {result.error.slice(0, mostError)}
                  </pre>
                )}
              </span>
            </li>
          ))}
        </ul>
      )}
      {results.length > shown.value && (
        <button type="button" onClick={() => (shown.value += mostResults)}>
          {results.length - shown.value} more results
        </button>
      )}
    </>
  )
}
