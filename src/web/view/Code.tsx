// A block of code: its language, line numbers that are not copied, colours where the language is known, and a copy button.
import { useSignal } from '@preact/signals'
import { parse } from 'sugar-high/core'
import { lang, languages } from 'sugar-high/lang'
import { Icon } from './Icon.tsx'
import { memo } from './memo.tsx'

/** Lines that are coloured: colouring more takes longer than a frame. */
const most = 1500

const linesOf = (code: string, language: string | null) => {
  const lines = code.replace(/\n$/, '').split('\n')
  const name = language ? lang(language.toLowerCase()) : undefined
  if (!name || lines.length > most) return lines.map((line) => [{ type: 'identifier', value: line }])
  const config = languages.find(({ id }) => id === name)?.config
  const parsed = parse(lines.join('\n'), config).lines
  return lines.map((line, n) => parsed[n]?.tokens ?? [{ type: 'identifier', value: line }])
}

/** The lines, which don't change while the copy button does. */
const Lines = memo(({ code, language }: { code: string; language: string | null }) => (
  <code>
    {linesOf(code, language).map((tokens, n) => (
      <span key={n} class="line">
        {tokens.map(({ type, value }, m) => {
          const plain = ['identifier', 'sign', 'space', 'break', 'jsxliterals'].includes(type)
          return plain ? (
            value.replace('\n', '')
          ) : (
            <span key={m} class={`t-${type}`}>
              {value}
            </span>
          )
        })}
        {'\n'}
      </span>
    ))}
  </code>
))

export const Code = memo(({ code, language }: { code: string; language: string | null }) => {
  const told = useSignal('')
  const copy = async (): Promise<void> => {
    // (A page that came without TLS has no clipboard.)
    const done = await navigator.clipboard?.writeText(code).then(
      () => true,
      () => false,
    )
    told.value = done ? 'Copied' : 'Not allowed here'
    setTimeout(() => (told.value = ''), 1500)
  }
  return (
    <figure class="code">
      <figcaption>
        <span>{language ?? 'text'}</span>
        <button type="button" class="quiet" onClick={() => void copy()} aria-label={`Copy ${language ?? 'text'} code`}>
          {told.value ? <span role="status">{told.value}</span> : <Icon name="copy" />}
        </button>
      </figcaption>
      <pre tabIndex={0} role="group" aria-label={`${language ?? 'text'} code`}>
        <Lines code={code} language={language} />
      </pre>
    </figure>
  )
})
