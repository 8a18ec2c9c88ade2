// The mission's test runs: which passed, what failed and why, the figures, and the log as it grows. A failure goes to Rafael quoted.
import { useSignal } from '@preact/signals'
import { useEffect, useLayoutEffect, useMemo, useRef } from 'preact/hooks'
import type { TestRun } from '../../../client/index.ts'
import { fence } from '../../markdown.ts'
import { makePieces } from '../../pieces.ts'
import { figuresOf, resultsOf, sumsOf, type Result } from '../../results.ts'
import type { Place } from '../../state/place.ts'
import { go, route } from '../../state/route.ts'
import type { Runs } from '../../state/runs.ts'
import { fullTime, percent, shortDay, timeOf } from '../../format.ts'
import { Icon } from '../Icon.tsx'
import { Reading } from '../chat/Reading.tsx'
import { later } from '../later.tsx'
import { useFramed } from '../chat/turns.ts'

const Diff = later(() => import('./Diff.tsx').then((part) => part.Diff))

/** Results that are shown at first, and with each *More*; characters of an error. */
const [mostResults, mostError] = [200, 20_000]

const names = { running: 'Running', passed: 'Passed', failed: 'Failed' } as const

const Log = ({ runs, id }: { runs: Runs; id: string }) => {
  const log = useMemo(() => runs.log(id), [runs, id])
  const box = useRef<HTMLPreElement>(null)
  const following = useSignal(true)
  useEffect(() => log.close, [log])
  const pieces = useMemo(makePieces, [log])
  const text = useFramed(log.text.value)
  useLayoutEffect(() => {
    if (box.current && following.value) box.current.scrollTop = box.current.scrollHeight
  }, [text, following.value])
  return (
    <section>
      <h2>
        Log
        <label class="switch">
          <input
            type="checkbox"
            checked={following.value}
            onChange={(event) => (following.value = event.currentTarget.checked)}
          />
          follow
        </label>
      </h2>
      {log.cut.value && <p class="muted">The end of it; the whole is at /api/missions/…/tests/…/logs.</p>}
      <pre
        class="log"
        ref={box}
        tabIndex={0}
        role="log"
        aria-live="off"
        aria-label="Log of the run"
        onScroll={({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
          following.value = scrollHeight - scrollTop - clientHeight < 24
        }}
      >
        {text === ''
          ? log.empty.value
            ? 'Nothing was logged.'
            : 'Reading the log …'
          : pieces(text).map((piece) => <span key={piece.id}>{piece.text}</span>)}
      </pre>
    </section>
  )
}

/** What Rafael is asked, with the failure quoted. */
const question = (run: TestRun, failed: Result[]): string => {
  const quoted = failed
    .slice(0, 5)
    .map(({ name, error }) => `> **${name}** failed\n\n${error ? fence(error.slice(0, 1500), 'text') : ''}`)
  const more = failed.length > 5 ? `\nand ${failed.length - 5} more\n` : ''
  return `The run of ${shortDay(run.created_at)}, ${timeOf(run.created_at)} failed. Can you fix this?\n\n${quoted.join('\n')}${more}`
}

const labelOf = ({ status, created_at }: TestRun): string =>
  `${shortDay(created_at)}, ${timeOf(created_at)} · ${names[status]}`

type Props = { place: Place; mission: string; wide: boolean }

export const Tests = ({ place, mission, wide }: Props) => {
  const runs = place.runs(mission)
  const { chosen } = runs
  /** the run that it is compared with */
  const other = useSignal('')
  const all = runs.runs.value
  const wanted = chosen.value
  /** the one that was shown first: it stays when another begins */
  const reading = useSignal('')
  const newest = all?.[0]
  const onShow = wanted || reading.value
  const run = all?.find(({ id }) => id === onShow) ?? (wanted ? undefined : newest)
  useEffect(() => void (reading.value = run?.id ?? ''), [run?.id])
  // One that is not among the newest is read.
  useEffect(() => {
    if (all && wanted && !all.some(({ id }) => id === wanted)) void runs.read(wanted)
  }, [all, wanted])
  const compared = all?.find(({ id }) => id === other.value && id !== run?.id)

  const askRafael = (failed: Result[]): void => {
    if (!run) return
    const room = place.room(mission, 'rafael')
    const before = room.outgoing.text.peek()
    room.outgoing.write(`${before}${before ? '\n\n' : ''}${question(run, failed)}`)
    go({ mission: route.peek().mission, citizen: 'rafael', view: 'chat' })
    // Once the chat is there.
    requestAnimationFrame(() => document.getElementById('composer')?.focus())
  }
  const askRun = async (): Promise<void> => {
    const id = await runs.ask()
    if (id) chosen.value = id
  }

  const results = useMemo(() => (run ? resultsOf(run) : []), [run])
  const shown = useSignal(mostResults)
  useEffect(() => void (shown.value = mostResults), [run?.id])
  const failed = results.filter(({ ok }) => !ok)
  return (
    <div class="tests">
      <div class="picker">
        {all && all.length > 0 && (
          <select
            aria-label="Test run"
            value={run?.id ?? ''}
            onChange={(event) => {
              if (event.currentTarget.value === 'more') void runs.load()
              else runs.choose(event.currentTarget.value)
            }}
          >
            {all.map((one) => (
              <option key={one.id} value={one.id}>
                {labelOf(one)}
              </option>
            ))}
            {runs.more.value && <option value="more">Older runs …</option>}
          </select>
        )}
        <button type="button" onClick={() => void askRun()}>
          <Icon name="play" /> Run tests
        </button>
        {run && all && all.length > 1 && (
          <select
            class="other"
            aria-label="Compare with"
            value={compared?.id ?? ''}
            onChange={(event) => {
              if (event.currentTarget.value === 'more') void runs.load()
              else other.value = event.currentTarget.value
            }}
          >
            <option value="">Compare with …</option>
            {all
              .filter(({ id }) => id !== run.id)
              .map((one) => (
                <option key={one.id} value={one.id}>
                  {labelOf(one)}
                </option>
              ))}
            {runs.more.value && <option value="more">Older runs …</option>}
          </select>
        )}
      </div>
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
      {!run && (all && !wanted ? <p class="muted empty">There was no test run yet.</p> : <Reading what="the runs" />)}
      {run && compared && (
        <section class="compared">
          <h2>
            What changed
            <button type="button" class="small" onClick={() => (other.value = '')}>
              Close
            </button>
          </h2>
          <p class="muted">
            from {shortDay(compared.created_at)}, {timeOf(compared.created_at)} to {shortDay(run.created_at)},{' '}
            {timeOf(run.created_at)}
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
          <p class={`verdict ${run.status}`} role="status">
            <b>{names[run.status]}</b>
            <time dateTime={run.created_at} title={fullTime(run.created_at)}>
              {shortDay(run.created_at)}, {timeOf(run.created_at)}
            </time>
          </p>
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
            <button type="button" class="primary" onClick={() => askRafael(failed)}>
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
          <Log key={run.id} runs={runs} id={run.id} />
        </>
      )}
    </div>
  )
}
