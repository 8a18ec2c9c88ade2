// Compares two runs: newly failing and fixed tests, other differences, and the messages between the runs, each with a link to its
// chat.
import { useSignal } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import { useEffect } from 'preact/hooks'
import type { Message, RunDiff } from '../../../client/index.ts'
import { persist, wordsOf } from '../../state/online.ts'
import type { Place } from '../../state/place.ts'
import { go, route } from '../../state/route.ts'
import { capital, dayAndTime } from '../../format.ts'
import { Reading } from '../chat/Reading.tsx'
import { authorOf } from '../chat/Row.tsx'
import '../../style/diff.css'

const Part = ({
  title,
  count,
  tone,
  children,
}: {
  title: string
  count: number
  tone?: string
  children: ComponentChildren
}) =>
  count === 0 ? null : (
    <section class={`change ${tone ?? ''}`}>
      <h3>
        {title} <span class="muted">{count}</span>
      </h3>
      <ul>{children}</ul>
    </section>
  )

const Failing = ({ name, error }: { name: string; error: string | null }) => (
  <li>
    <code>{name}</code>
    {error && (
      <pre tabIndex={0} role="group" aria-label={`Error of ${name}`}>
        {error}
      </pre>
    )}
  </li>
)

const Between = ({ message, onOpen }: { message: Message; onOpen: () => void }) => (
  <li>
    <button type="button" class="hit" onClick={onOpen}>
      <b>{message.sender === 'citizen' ? authorOf(message) : `${authorOf(message)} → ${capital(message.citizen)}`}</b>{' '}
      <span class="muted">{dayAndTime(message.created_at)}</span>
      <span class="snippet">{message.message.slice(0, 300)}</span>
    </button>
  </li>
)

type Props = { place: Place; mission: string; from: string; to: string; wide: boolean; stamp: string }

/** Shows what changed between two runs; `stamp` changes when one of them does. */
export const Diff = ({ place, mission, from, to, wide, stamp }: Props) => {
  const diff = useSignal<RunDiff | undefined>(undefined)
  const failure = useSignal('')
  useEffect(() => {
    const asked = new AbortController()
    persist(place.deck, asked.signal, (signal) => place.deck.tests(mission).diff(from, to, { signal })).then(
      (found) => {
        diff.value = found
        failure.value = ''
      },
      (error: unknown) => {
        if (!asked.signal.aborted) failure.value = wordsOf(error)
      },
    )
    return () => asked.abort()
  }, [mission, from, to, stamp])
  const open = ({ citizen, seq }: Message): void => {
    place.target.value = { mission, citizen, seq }
    go({ mission: route.peek().mission, citizen, view: wide ? 'tests' : 'chat' })
  }
  if (failure.value)
    return (
      <p class="failure" role="alert">
        {failure.value}
      </p>
    )
  if (!diff.value) return <Reading what="both runs" />
  const { newly_failing, fixed, still_failing, added, removed, slower, flaky, between } = diff.value
  const changes = [newly_failing, fixed, still_failing, added, removed, slower, flaky]
  return (
    <div class="diff">
      {changes.every(({ length }) => length === 0) && <p class="muted">No test changed between the two runs.</p>}
      <Part title="Newly failing" count={newly_failing.length} tone="bad">
        {newly_failing.map(({ name, error }) => (
          <Failing key={name} name={name} error={error} />
        ))}
      </Part>
      <Part title="Fixed" count={fixed.length} tone="good">
        {fixed.map(({ name }) => (
          <li key={name}>
            <code>{name}</code>
          </li>
        ))}
      </Part>
      <Part title="Still failing" count={still_failing.length} tone="bad">
        {still_failing.map(({ name, error }) => (
          <Failing key={name} name={name} error={error} />
        ))}
      </Part>
      <Part title="Slower" count={slower.length} tone="slow">
        {slower.map(({ name, a_ms, b_ms }) => (
          <li key={name}>
            <code>{name}</code> <span class="muted">{`${Math.round(a_ms)} → ${Math.round(b_ms)} ms`}</span>
          </li>
        ))}
      </Part>
      <Part title="Flaky" count={flaky.length} tone="slow">
        {flaky.map(({ name, flips, runs }) => (
          <li key={name}>
            <code>{name}</code> <span class="muted">{`${flips} flips in ${runs} runs`}</span>
          </li>
        ))}
      </Part>
      <Part title="Added" count={added.length}>
        {added.map(({ name, status }) => (
          <li key={name}>
            <code>{name}</code> <span class="muted">{status}</span>
          </li>
        ))}
      </Part>
      <Part title="Removed" count={removed.length}>
        {removed.map(({ name, status }) => (
          <li key={name}>
            <code>{name}</code> <span class="muted">{status}</span>
          </li>
        ))}
      </Part>
      <section class="change">
        <h3>
          Messages in between <span class="muted">{`${between.messages.length}${between.has_more ? '+' : ''}`}</span>
        </h3>
        {between.messages.length === 0 && <p class="muted">No messages between the two runs.</p>}
        <ul class="between">
          {between.messages.map((message) => (
            <Between key={message.id} message={message} onOpen={() => open(message)} />
          ))}
        </ul>
        {between.has_more && <p class="muted">Older messages are in the timeline.</p>}
      </section>
    </div>
  )
}
