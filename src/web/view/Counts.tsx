// What a chat or a mission has for the reader: failed and waiting questions, and unread messages.
import type { Counts as Numbers } from '../state/missions.ts'
import { count } from '../format.ts'

const Tally = ({ n, what }: { n: number; what: 'failed' | 'waiting' }) => {
  const label = `${count(n)} ${n === 1 ? 'question' : 'questions'} ${what}`
  return (
    <span class={`tally ${what}`} aria-label={label} title={label}>
      {what === 'failed' ? '!' : '…'}
      {count(n)}
    </span>
  )
}

export const Counts = ({ counts: { unread, waiting, failed } }: { counts: Numbers }) => (
  <span class="counts">
    {failed > 0 && <Tally n={failed} what="failed" />}
    {waiting > 0 && <Tally n={waiting} what="waiting" />}
    {unread > 0 && (
      <span class="badge" aria-label={`${count(unread)} unread`}>
        {count(unread)}
      </span>
    )}
  </span>
)
