// An item's evidence: its test and run, or why it is missing; and how an admin may tick the item without it.
import { useSignal } from '@preact/signals'
import type { DodItem } from '../../../client/index.ts'
import type { Place } from '../../state/place.ts'
import { go, route } from '../../state/route.ts'
import { dayAndTime, fullTime } from '../../format.ts'
import { keepFocus } from '../focus.ts'
import { Icon } from '../Icon.tsx'

/** The state of an item's test in words. */
export const wordsOf = ({ evidence, completed }: DodItem): string => {
  const when = evidence?.at ? dayAndTime(evidence.at) : ''
  if (evidence?.status === 'passed') return `passed in the run of ${when}`
  if (evidence?.status === 'failed') return `${completed ? 'fails since' : 'failed in'} the run of ${when}`
  return evidence?.run ? `was skipped in the run of ${when}` : 'is in no finished run yet'
}
const states = { passed: 'proved', failed: 'failing', missing: 'missing' } as const

export const Evidence = ({ item, place }: { item: DodItem; place: Place }) => {
  const { test_name, evidence, override } = item
  const run = evidence?.run
  return (
    <>
      {test_name && evidence && (
        <p class={`evidence ${evidence.status}`}>
          <span class="mark">
            <Icon name={evidence.status === 'passed' ? 'check' : evidence.status === 'failed' ? 'close' : 'open'} />
            <b>{states[evidence.status]}</b>
          </span>
          <code>{test_name}</code> {wordsOf(item)}
          {run && (
            <button
              type="button"
              class="quiet"
              aria-label={`Show the run that has ${test_name}`}
              title="Show the run"
              onClick={() => {
                place.runs(item.mission_id).chosen.value = run
                go({ ...route.peek(), view: 'tests' })
                keepFocus('.panel')
              }}
            >
              <Icon name="go" />
            </button>
          )}
        </p>
      )}
      {override && (
        <p class="evidence overridden">
          <b>ticked without evidence</b> by {override.by},{' '}
          <time dateTime={override.at} title={fullTime(override.at)}>
            {dayAndTime(override.at)}
          </time>
          : “{override.reason}”
        </p>
      )}
    </>
  )
}

/** Asks for a reason, in place. */
const Override = ({
  label,
  onReason,
  onLeave,
}: {
  label: string
  onReason: (reason: string) => void
  onLeave: () => void
}) => {
  const asked = useSignal(false)
  const reason = useSignal('')
  if (!asked.value)
    return (
      <span class="actions">
        <button type="button" onClick={() => (asked.value = true)}>
          {label} …
        </button>
        <button type="button" onClick={onLeave}>
          Leave it open
        </button>
      </span>
    )
  return (
    <form
      class="override"
      onSubmit={(event) => {
        event.preventDefault()
        if (reason.value.trim()) onReason(reason.value.trim())
      }}
      onKeyDown={(event) => {
        if (event.key !== 'Escape') return
        event.stopPropagation()
        onLeave()
      }}
    >
      <label>
        Reason, stored with the item and visible to everyone
        <textarea
          rows={2}
          maxLength={1000}
          required
          value={reason.value}
          ref={(area) => void (reason.peek() === '' && area?.focus())}
          onInput={(event) => (reason.value = event.currentTarget.value)}
        />
      </label>
      <span class="actions">
        <button type="submit" class="primary" disabled={reason.value.trim() === ''}>
          Tick without evidence
        </button>
        <button type="button" onClick={onLeave}>
          Leave it open
        </button>
      </span>
    </form>
  )
}

type Props = {
  items: DodItem[]
  admin: boolean
  onReason: (reason: string) => void
  onLeave: () => void
}

/** Shows why one item, or all items, could not be ticked. */
export const Refused = ({ items, admin, onReason, onLeave }: Props) => {
  const one = items.length === 1 ? items[0] : undefined
  return (
    <div class="refused" role="alert">
      {one ? (
        <p>
          Not ticked: its test <code>{one.test_name}</code> {wordsOf(one)}. It can be ticked once a run shows that the
          test passes.
        </p>
      ) : (
        <>
          <p>Nothing was ticked: {items.length || 'some'} items have a test that does not prove them.</p>
          <ul>
            {items.map((item) => (
              <li key={item.id}>
                {item.text}: <code>{item.test_name}</code> {wordsOf(item)}
              </li>
            ))}
          </ul>
        </>
      )}
      {admin ? (
        <Override label={one ? 'Tick it anyway' : 'Tick them anyway'} onReason={onReason} onLeave={onLeave} />
      ) : (
        <p>
          An admin may tick {one ? 'it' : 'them'} anyway, with a reason.{' '}
          <button type="button" class="small" onClick={onLeave}>
            Close
          </button>
        </p>
      )}
    </div>
  )
}
