// A block of code: its language, line numbers that are not copied, colours where the language is known, and a copy button. Of a long one
// only the lines near the window are elements; a line that is too long goes on in the next row.
import { useSignal } from '@preact/signals'
import { useMemo } from 'preact/hooks'
import { codeElements, codeLines } from '../../markdown.ts'
import { colouredLines, makeColours } from './colours.ts'
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

/**
 * The rows that show a code, cut only when they are shown: a code may have 100,000 of them.
 * `numbers`: the line of each row, 0 if the row continues the one before.
 */
const rowsOf = (code: string) => {
  const end = code.endsWith('\n') ? code.length - 1 : code.length
  const begins: number[] = []
  const numbers: number[] = []
  let wide = 0
  for (let begin = 0, line = 1, next = 0; next <= end; begin = next, line++) {
    const found = code.indexOf('\n', begin)
    next = (found < 0 ? end : found) + 1
    let at = begin
    do {
      begins.push(at)
      numbers.push(at === begin ? line : 0)
      let stop = Math.min(at + mostChars, next - 1)
      // A character of two units stays whole.
      if (stop < next - 1 && /[\ud800-\udbff]/.test(code[stop - 1] as string)) stop++
      wide = Math.max(wide, stop - at)
      at = stop
    } while (at < next - 1)
  }
  const continues = (row: number): boolean => numbers[row] === 0
  const row = (n: number): string =>
    code.slice(begins[n], continues(n + 1) ? begins[n + 1] : (begins[n + 1] ?? end + 1) - 1)
  return { count: begins.length, wide, row, numbers, continues }
}

const Lines = memo(({ code, language, from: wanted }: { code: string; language: string | null; from: number }) => {
  const { count, wide, row, numbers, continues } = useMemo(() => rowsOf(code), [code])
  // (The rows of a code with long lines are not its lines.)
  const coloured = Math.min(numbers.at(-1) === count ? count : 0, colouredLines)
  const lines = useMemo(() => Array.from({ length: coloured }, (_, n) => row(n)), [row, coloured])
  const colours = useMemo(() => makeColours(language), [language])
  const turn = useTurn()
  const long = count > codeLines
  const from = long ? Math.min(wanted, Math.max(0, count - inWindow - around)) : 0
  const to = long ? Math.min(count, from + inWindow + 2 * around + step) : count
  colours.set(lines)
  while (colours.done < Math.min(to, coloured) && turn((colours.pieces + 1) * piece) >= (colours.pieces + 1) * piece)
    colours.next()
  let left = mostTokens
  const shown = Array.from({ length: to - from }, (_, n) => {
    const tokens = colours.of(from + n)
    left -= tokens?.length ?? 0
    return (
      <span key={from + n} class="line" data-line={numbers[from + n] || undefined}>
        {tokens && left >= 0
          ? tokens.map(({ type, value }) => (type === '' ? value : <span class={`t-${type}`}>{value}</span>))
          : row(from + n)}
        {continues(from + n + 1) ? '' : '\n'}
      </span>
    )
  })
  if (!long) return <code>{shown}</code>
  const style = {
    paddingTop: `${from * rowHeight}px`,
    paddingBottom: `${(count - to) * rowHeight}px`,
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
