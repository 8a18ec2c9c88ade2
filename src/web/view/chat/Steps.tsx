// What a citizen does or did for a reply: a short list of steps at the draft, and folded at the stored message.
import { useSignal } from '@preact/signals'
import type { Activity, Message } from '../../../client/index.ts'
import { span, visible } from '../../format.ts'
import { Icon } from '../Icon.tsx'
import { memo } from '../memo.tsx'

/** Steps that a draft shows: the last ones. */
const mostShown = 6

type Stored = NonNullable<Message['activity']>[number]

const marks = { running: 'open', done: 'check', failed: 'close' } as const

/** `ms`: how long it took; a draft's step has none. */
const Line = ({ line, status, ms = 0 }: Pick<Stored, 'line' | 'status'> & { ms?: number }) => (
  <li data-status={status}>
    <Icon name={marks[status]} />
    <span class="unseen">{status}: </span>
    <span class="doing">{visible(line)}</span>
    {ms >= 1000 && <span class="took">{span(ms)}</span>}
  </li>
)

/** The steps of a draft. */
export const Doing = memo(({ steps }: { steps: readonly Activity[] }) => {
  if (steps.length === 0) return null
  const earlier = steps.length - mostShown
  return (
    <ol class="steps" aria-label="Steps">
      {earlier > 0 && (
        <li>
          <span class="doing">
            {earlier} earlier {earlier === 1 ? 'step' : 'steps'}
          </span>
        </li>
      )}
      {steps.slice(-mostShown).map(({ id, line, status }) => (
        <Line key={id} line={line} status={status} />
      ))}
    </ol>
  )
})

/** The usage in a line: its numbers and texts, one after another. */
const usageText = (usage: Message['usage'] = {}): string =>
  Object.entries(usage)
    .flatMap(([name, value]) =>
      typeof value === 'number' || typeof value === 'string' ? [`${name.replaceAll('_', ' ')} ${value}`] : [],
    )
    .join(' · ')

/** The steps of a stored message, and what it used, folded. They are rendered once they are opened. */
export const Done = ({ message: { activity = [], usage } }: { message: Message }) => {
  const isOpen = useSignal(false)
  if (activity.length === 0) return null
  const failed = activity.filter(({ status }) => status === 'failed').length
  const used = usageText(usage)
  return (
    <details class="did" onToggle={(event) => (isOpen.value = event.currentTarget.open)}>
      <summary>
        {activity.length} {activity.length === 1 ? 'step' : 'steps'}
        {failed > 0 && `, ${failed} failed`}
      </summary>
      {isOpen.value && (
        <>
          <ol class="steps" aria-label="Steps">
            {activity.map((step, n) => (
              <Line key={n} {...step} />
            ))}
          </ol>
          {used && <p class="used">{visible(used)}</p>}
        </>
      )}
    </details>
  )
}
