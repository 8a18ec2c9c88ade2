// What a chat or a mission has for the reader: open requests, failed and waiting questions, and unread messages.
import type { Counts as Numbers } from '../state/missions.ts'
import { count } from '../format.ts'

const marks = { requests: '?', failed: '!', waiting: '…' } as const

const Tally = ({ n, what }: { n: number; what: keyof typeof marks }) => {
  const one = n === 1
  const label =
    what === 'requests'
      ? `${count(n)} open ${one ? 'request' : 'requests'}`
      : `${count(n)} ${one ? 'question' : 'questions'} ${what}`
  return (
    <span class={`tally ${what}`} aria-label={label} title={label}>
      {marks[what]}
      {count(n)}
    </span>
  )
}

export const Counts = ({ counts: { unread, waiting, failed, requests } }: { counts: Numbers }) => (
  <span class="counts">
    {requests > 0 && <Tally n={requests} what="requests" />}
    {failed > 0 && <Tally n={failed} what="failed" />}
    {waiting > 0 && <Tally n={waiting} what="waiting" />}
    {unread > 0 && (
      <span class="badge" aria-label={`${count(unread)} unread`}>
        {count(unread)}
      </span>
    )}
  </span>
)
