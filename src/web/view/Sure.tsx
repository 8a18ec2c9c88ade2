// A button for what is not easily taken back: it asks once more, in place.
import { useSignal } from '@preact/signals'

export const Sure = ({ label, question, onYes }: { label: string; question: string; onYes: () => void }) => {
  const asked = useSignal(false)
  if (!asked.value)
    return (
      <button type="button" onClick={() => (asked.value = true)}>
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
        asked.value = false
      }}
    >
      <span>{question}</span>
      <button
        type="button"
        class="primary"
        ref={(button) => button?.focus()}
        onClick={() => {
          asked.value = false
          onYes()
        }}
      >
        Yes
      </button>
      <button type="button" onClick={() => (asked.value = false)}>
        No
      </button>
    </span>
  )
}
