// Where one writes: Enter sends, Shift+Enter begins a line. A dropped file becomes a code block of the text, or, if it is long, comes
// along as one. What is written is kept for each chat until it is sent.
import { useSignal } from '@preact/signals'
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks'
import { blocksOf, fence, parse } from '../../markdown.ts'
import type { Place } from '../../state/place.ts'
import type { ChatState } from '../../state/chat.ts'
import { capital } from '../../format.ts'
import { Icon } from '../Icon.tsx'

/** characters of a message, and bytes of its blocks, where the server has told no others yet */
const [mostChars, mostBytes] = [10_000, 256 * 1024]
/** ms after which one who types says so again, and after which one no longer does */
const [again, rest] = [3000, 5000]

const languageOf = (file: string): string | null => /\.([a-z0-9]{1,12})$/i.exec(file)?.[1]?.toLowerCase() ?? null
const length = (text: string): number => [...text].length

export const Composer = ({ chat, place }: { chat: ChatState; place: Place }) => {
  const area = useRef<HTMLTextAreaElement>(null)
  const { files: attached, attach } = chat.outgoing
  const over = useSignal(false)
  const told = useSignal('')
  const typing = useRef({ at: 0, timer: 0 })
  const text = chat.outgoing.text.value
  const { who, deck } = place
  const limits = deck.welcome?.limits
  const most = limits?.['message_chars'] ?? mostChars
  const silent = who.role === 'citizen' && who.sub !== chat.citizen

  const stopTyping = (): void => {
    clearTimeout(typing.current.timer)
    if (typing.current.at > 0) chat.client.typing(false)
    typing.current.at = 0
  }
  useEffect(() => {
    told.value = ''
    return stopTyping
  }, [chat])

  // As high as its text; the browser does it where it can (field-sizing).
  useLayoutEffect(() => {
    const element = area.current
    if (!element || CSS.supports('field-sizing', 'content')) return
    element.style.height = 'auto'
    element.style.height = `${element.scrollHeight + 2}px`
  })

  const write = (value: string): void => {
    chat.outgoing.write(value)
    told.value = ''
    if (value === '') return stopTyping()
    const { current } = typing
    clearTimeout(current.timer)
    current.timer = window.setTimeout(stopTyping, rest)
    if (Date.now() - current.at < again) return
    current.at = Date.now()
    chat.client.typing(true)
  }

  const send = (): void => {
    const given = chat.outgoing.text.peek().trim() === '' ? '' : chat.outgoing.text.peek()
    const files = attached.peek()
    if (given === '' && files.length === 0) return
    const message = given || files.map(({ name }) => name).join(', ')
    if (length(message) > most) return
    const blocks = files.map(({ language, code }) => ({ language, code }))
    chat.send(message, files.length > 0 ? [...blocksOf(parse(message)), ...blocks] : undefined)
    chat.outgoing.write('')
    attach([])
    stopTyping()
    dispatchEvent(new Event('deck-newest'))
  }

  const takeFile = async (file: File): Promise<void> => {
    const room_ =
      (limits?.['code_blocks_bytes'] ?? mostBytes) - attached.peek().reduce((sum, { code }) => sum + code.length * 3, 0)
    if (file.size > room_)
      return void (told.value = `${file.name} is too large: a message takes ${Math.floor(mostBytes / 1024)} KiB of code.`)
    const code = new TextDecoder().decode(await file.arrayBuffer())
    // What is no text has such characters.
    if (code.includes('\0') || code.includes('\ufffd')) return void (told.value = `${file.name} is not a text.`)
    const language = languageOf(file.name)
    const before = chat.outgoing.text.peek()
    const added = `${before && !before.endsWith('\n') ? `${before}\n` : before}${fence(code, language)}`
    const lines = code.split('\n').length
    if (length(added) <= most && lines <= 200) write(added)
    else attach([...attached.peek(), { name: file.name, language, code, lines }])
    area.current?.focus()
  }

  // A file may be dropped anywhere, from the first frame on: without a listener the browser would open it instead of the page.
  useLayoutEffect(() => {
    if (silent) return
    const drop = (event: DragEvent): void => {
      over.value = false
      void (async () => {
        for (const file of event.dataTransfer?.files ?? []) await takeFile(file)
      })()
    }
    const drag = (event: DragEvent): void => void (over.value = event.dataTransfer?.types.includes('Files') ?? false)
    const leave = (event: DragEvent): void => void (event.relatedTarget || (over.value = false))
    const works = { drop, dragover: drag, dragleave: leave }
    for (const [name, work] of Object.entries(works)) addEventListener(name as 'drop', work)
    return () => {
      for (const [name, work] of Object.entries(works)) removeEventListener(name as 'drop', work)
    }
  }, [chat])

  if (silent)
    return (
      <p id="composer" class="composer silent" tabIndex={-1}>
        You are {who.sub}: a citizen writes in its own chat only.
      </p>
    )
  const left = most - length(text)
  return (
    <form
      class={`composer ${over.value ? 'over' : ''}`}
      onSubmit={(event) => {
        event.preventDefault()
        send()
      }}
    >
      {attached.value.length > 0 && (
        <ul class="attached">
          {attached.value.map(({ name, lines }) => (
            <li key={name}>
              {name} <span class="muted">{lines} lines</span>
              <button
                type="button"
                class="quiet"
                aria-label={`Leave out ${name}`}
                onClick={() => attach(attached.value.filter((one) => one.name !== name))}
              >
                <Icon name="close" />
              </button>
            </li>
          ))}
        </ul>
      )}
      <div class="field">
        <textarea
          id="composer"
          ref={area}
          rows={1}
          value={text}
          aria-label={`Message to ${capital(chat.citizen)}`}
          placeholder={`Message ${capital(chat.citizen)}, or drop a file`}
          onInput={(event) => write(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
            event.preventDefault()
            send()
          }}
        />
        <button
          type="submit"
          class="send"
          aria-label="Send"
          disabled={left < 0 || (text.trim() === '' && attached.value.length === 0)}
        >
          <Icon name="send" />
        </button>
      </div>
      {(told.value || left < 1000) && (
        <p class={left < 0 || told.value ? 'failure' : 'muted'} role="status">
          {told.value || (left < 0 ? `${-left} characters too many` : `${left} characters left`)}
        </p>
      )}
    </form>
  )
}
