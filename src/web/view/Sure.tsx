// A button for what is not easily taken back: it asks once more, in place.
import { useSignal } from '@preact/signals'

export const Sure = ({ label, question, onYes }: { label: string; question: string; onYes: () => void }) => {
  const asked = useSignal(false)
  /** what was asked was answered: the focus comes back */
  const answered = useSignal(false)
  const answer = (yes: boolean): void => {
    answered.value = true
    asked.value = false
    if (yes) onYes()
  }
  if (!asked.value)
    return (
      <button
        type="button"
        ref={(button) => {
          if (answered.peek()) button?.focus()
          answered.value = false
        }}
        onClick={() => (asked.value = true)}
      >
        {label}
      </button>
    )
  return (
    <span
      class="sure"
      role="group"
      aria-label={question}
      onKeyDown={(event) => {
        if (event.key !== 'Escape') return
        event.stopPropagation()
        answer(false)
      }}
    >
      <span>{question}</span>
      <button type="button" class="primary" ref={(button) => button?.focus()} onClick={() => answer(true)}>
        Yes
      </button>
      <button type="button" onClick={() => answer(false)}>
        No
      </button>
    </span>
  )
}
