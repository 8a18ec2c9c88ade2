// The controls that answer a request, by its kind. A text is kept until it is sent, also over a reload.
import type { Request } from '../../../client/index.ts'
import type { Requests } from '../../state/requests.ts'

/** Options up to this number and length are buttons; otherwise one is chosen from a list and sent. */
const [mostButtons, mostOnButton] = [5, 40]
/** Characters of an answer. */
const mostChars = 10_000

type Props = {
  request: Request
  requests: Requests
  sending: boolean
}

export const Controls = ({ request, requests, sending }: Props) => {
  const { id, kind, title, options } = request
  const text = requests.text(id).value
  const answer = (event: Event, value: boolean | string): void => {
    event.preventDefault()
    if (!sending) void requests.answer(request, value)
  }
  const button = (label: string, value: boolean | string, look = '') => (
    <button type="button" class={look} aria-disabled={sending} onClick={(event) => answer(event, value)}>
      {label}
    </button>
  )
  const wait = sending && (
    <span class="muted" role="status">
      Sending …
    </span>
  )
  if (kind === 'approve')
    return (
      <div class="controls" role="group" aria-label={title}>
        {button('Approve', true, 'primary')}
        {button('Decline', false)}
        {wait}
      </div>
    )
  if (kind === 'choose') {
    const all = options ?? []
    if (all.length <= mostButtons && all.every((option) => option.length <= mostOnButton))
      return (
        <div class="controls" role="group" aria-label={title}>
          {all.map((option) => button(option, option))}
          {wait}
        </div>
      )
    return (
      <form class="controls" onSubmit={(event) => (text === '' ? event.preventDefault() : answer(event, text))}>
        <fieldset class="options">
          <legend class="unseen">{title}</legend>
          {all.map((option) => (
            <label key={option}>
              <input
                type="radio"
                name={`option ${id}`}
                checked={text === option}
                onChange={() => requests.write(id, option)}
              />
              <span>{option}</span>
            </label>
          ))}
        </fieldset>
        <button type="submit" class="primary" disabled={text === ''} aria-disabled={sending}>
          Send
        </button>
        {wait}
      </form>
    )
  }
  const left = mostChars - [...text].length
  const ready = text.trim() !== '' && left >= 0
  return (
    <form class="controls" onSubmit={(event) => (ready ? answer(event, text) : event.preventDefault())}>
      <textarea
        rows={2}
        value={text}
        aria-label={`Answer: ${title}`}
        placeholder="Your answer"
        onInput={(event) => requests.write(id, event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey) || event.isComposing || !ready) return
          answer(event, text)
        }}
      />
      <button type="submit" class="primary" title="Ctrl+Enter or ⌘+Enter" disabled={!ready} aria-disabled={sending}>
        Send
      </button>
      {wait}
      {left < 1000 && (
        <span class={left < 0 ? 'failure' : 'muted'} role="status">
          {left < 0 ? `${-left} characters too many` : `${left} characters left`}
        </span>
      )}
    </form>
  )
}
