// One message as a row, with what it answers, and what became of it if it is a question. Messages of one author that follow each other within five minutes share one name.
import type { Message } from '../../../client/index.ts'
import { capital, dayOf, fullTime, sameDay, timeOf } from '../../format.ts'
import { Markdown } from './Markdown.tsx'
import type { Context } from './context.ts'
import { State } from './State.tsx'
import { Done } from './Steps.tsx'
import { memo } from '../memo.tsx'

const together = 5 * 60_000

export const authorOf = ({ sender, author, citizen }: Pick<Message, 'sender' | 'author' | 'citizen'>): string =>
  sender === 'citizen' ? capital(citizen) : (author ?? 'User')

export const Avatar = ({ name, citizen }: { name: string; citizen: boolean }) => (
  <span class={`avatar ${citizen ? 'citizen' : ''}`} aria-hidden="true">
    {[...name][0]?.toUpperCase()}
  </span>
)

type AnswersProps = { id: string; before: Message | undefined; context: Context; label?: string }

/** What a message answers, or what waits for a request (`label`), in one line that leads there. */
export const Answers = ({ id, before, context, label }: AnswersProps) => {
  const quote = context.quote(id)
  // Nothing is said of the message directly above.
  if (quote === null || (quote && quote.seq === before?.seq)) return null
  return (
    <button
      type="button"
      class="quote"
      aria-disabled={!quote}
      aria-label={quote && `${label ?? 'Answers'} ${authorOf(quote)}: ${quote.text}`}
      onClick={() => quote && context.jump(quote.seq)}
    >
      {quote ? (
        <>
          {label} <b>{authorOf(quote)}</b> {quote.text}
        </>
      ) : (
        '…'
      )}
    </button>
  )
}

type Props = {
  message: Message
  before: Message | undefined
  /** whether it is the first unread message of when the chat was opened */
  isNew: boolean
  /** whether a search or a link led to it */
  found: boolean
  mine: boolean
  context?: Context
}

export const Row = memo(({ message, before, isNew, found, mine, context }: Props) => {
  const newDay = !before || !sameDay(before.created_at, message.created_at)
  const follows =
    !newDay &&
    !isNew &&
    before.sender === message.sender &&
    before.author === message.author &&
    Date.parse(message.created_at) - Date.parse(before.created_at) < together
  const name = authorOf(message)
  return (
    <article
      data-seq={message.seq}
      class={`row ${follows ? 'follows' : ''} ${found ? 'found' : ''}`}
      aria-label={`${name}, ${timeOf(message.created_at)}`}
    >
      {newDay && (
        <div class="day">
          <span>{dayOf(message.created_at)}</span>
        </div>
      )}
      {isNew && (
        <div class="new">
          <span>New</span>
        </div>
      )}
      <div class={`message ${mine ? 'mine' : ''}`}>
        {!follows && <Avatar name={name} citizen={message.sender === 'citizen'} />}
        <div class="said">
          {!follows && (
            <header>
              <b>{name}</b>
              <time dateTime={message.created_at} title={fullTime(message.created_at)}>
                {timeOf(message.created_at)}
              </time>
            </header>
          )}
          {follows && (
            <time class="beside" dateTime={message.created_at} title={fullTime(message.created_at)}>
              {timeOf(message.created_at)}
            </time>
          )}
          {context && message.in_reply_to && message.in_reply_to !== before?.id && (
            <Answers id={message.in_reply_to} before={before} context={context} />
          )}
          {message.activity && <Done message={message} />}
          {message.redacted ? (
            <p class="muted">
              Redacted by {message.redacted.by},{' '}
              <time dateTime={message.redacted.at}>{fullTime(message.redacted.at)}</time>
            </p>
          ) : (
            <Markdown text={message.message} blocks={message.code_blocks} />
          )}
          {context?.questions && message.sender === 'user' && (
            <State message={message} citizen={context.citizen} questions={context.questions} />
          )}
        </div>
      </div>
    </article>
  )
})
