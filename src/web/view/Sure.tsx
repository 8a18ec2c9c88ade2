// A button for an action that is hard to undo: it asks for confirmation, in place.
import { useSignal } from '@preact/signals'

export const Sure = ({ label, question, onYes }: { label: string; question: string; onYes: () => void }) => {
  const asked = useSignal(false)
  /** whether the question was just answered: then the button gets the focus back */
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
