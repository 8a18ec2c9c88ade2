// A block of code: its language, line numbers that are not copied, colours where the language is known, and a copy button. Of a long one
// only the lines near the window are elements; a line that is too long goes on in the next row.
import { useSignal } from '@preact/signals'
import { useMemo } from 'preact/hooks'
import { codeElements, codeLines } from '../../markdown.ts'
import { makeColours } from './colours.ts'
import { Icon } from '../Icon.tsx'
import { memo } from '../memo.tsx'
import { useTurn } from './turns.ts'

/** Blocks of code of one message that are shown. */
export const mostBlocks = 50
/** px of a row (.line) */
const rowHeight = 20
/** Rows above and below the window that are ready, and by how many rows it moves. */
const [around, step] = [12, 8]
/** Rows of a window as high as the style sheet lets it be. */
const inWindow = 24
/** Characters of a row. */
const mostChars = 1000
/** What reading a piece of colours costs, in elements, and the coloured tokens that are shown at a time. */
const [piece, mostTokens] = [80, 800]

/** The rows that show a code, and for each the number of its line, 0 if it continues the row before. */
const rowsOf = (code: string): { rows: string[]; numbers: number[] | undefined; wide: number } => {
  const lines = code.replace(/\n$/, '').split('\n')
  let wide = 0
  for (const line of lines) wide = Math.max(wide, line.length)
  if (wide <= mostChars) return { rows: lines, numbers: undefined, wide }
  const rows: string[] = []
  const numbers: number[] = []
  lines.forEach((line, n) => {
    for (let at = 0; at === 0 || at < line.length;) {
      // A character of two units stays whole.
      const end = at + mostChars + (/[\ud800-\udbff]/.test(line[at + mostChars - 1] ?? '') ? 1 : 0)
      rows.push(line.slice(at, end))
      numbers.push(at === 0 ? n + 1 : 0)
      at = end
    }
  })
  return { rows, numbers, wide: mostChars }
}

const Lines = memo(({ code, language, from: wanted }: { code: string; language: string | null; from: number }) => {
  const { rows, numbers, wide } = useMemo(() => rowsOf(code), [code])
  const colours = useMemo(() => makeColours(language), [language])
  const turn = useTurn()
  const long = rows.length > codeLines
  const from = long ? Math.min(wanted, Math.max(0, rows.length - inWindow - around)) : 0
  const to = long ? Math.min(rows.length, from + inWindow + 2 * around + step) : rows.length
  if (!numbers) {
    colours.set(rows)
    while (colours.done < to && turn((colours.pieces + 1) * piece) >= (colours.pieces + 1) * piece) colours.next()
  }
  let left = mostTokens
  const shown = rows.slice(from, to).map((row, n) => {
    const tokens = colours.of(from + n)
    left -= tokens?.length ?? 0
    const number = numbers ? numbers[from + n] : from + n + 1
    return (
      <span key={from + n} class="line" data-line={number || undefined}>
        {tokens && left >= 0
          ? tokens.map(({ type, value }) => (type === '' ? value : <span class={`t-${type}`}>{value}</span>))
          : row}
        {numbers?.[from + n + 1] === 0 ? '' : '\n'}
      </span>
    )
  })
  if (!long) return <code>{shown}</code>
  const style = {
    paddingTop: `${from * rowHeight}px`,
    paddingBottom: `${(rows.length - to) * rowHeight}px`,
    minWidth: `max(100%, ${wide + 6}ch)`,
  }
  return <code style={style}>{shown}</code>
})

export const Code = memo(({ code, language }: { code: string; language: string | null }) => {
  const told = useSignal('')
  const from = useSignal(0)
  const copy = async (): Promise<void> => {
    // (A page that came without TLS has no clipboard.)
    const done = await navigator.clipboard?.writeText(code).then(
      () => true,
      () => false,
    )
    told.value = done ? 'Copied' : 'Not allowed here'
    setTimeout(() => (told.value = ''), 1500)
  }
  const name = (language ?? 'text').slice(0, 40)
  return (
    <figure class="code" dir="ltr">
      <figcaption>
        <span>{name}</span>
        <button type="button" class="quiet" onClick={() => void copy()} aria-label={`Copy ${name} code`}>
          {told.value ? <span role="status">{told.value}</span> : <Icon name="copy" />}
        </button>
      </figcaption>
      <pre
        tabIndex={0}
        role="group"
        aria-label={`${name} code`}
        onScroll={({ currentTarget: { scrollTop } }) => {
          from.value = Math.max(0, Math.floor(scrollTop / rowHeight / step) * step - around)
        }}
      >
        <Lines code={code} language={language} from={from.value} />
      </pre>
    </figure>
  )
})

/** One that is not part of a text: it waits for its turn. */
export const CodeInTurn = memo(({ code, language }: { code: string; language: string | null }) => {
  const turn = useTurn()
  const need = codeElements(code)
  return turn(need) < need ? <p class="source">…</p> : <Code code={code} language={language} />
})
