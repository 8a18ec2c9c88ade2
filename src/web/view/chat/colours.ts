// The colours of code, found piece by piece from its beginning: a piece is short, since the tokenizer may take a time that is quadratic in
// its length. A comment or a string that a piece does not end is read again with the lines that follow.
import { parse, type ParsedToken } from 'sugar-high/core'
import { lang, languages } from 'sugar-high/lang'

/** Characters of a piece, and of one that is read again. */
const [short, long] = [2000, 4000]
/** Lines of a code that are worth colours. */
export const colouredLines = 1500
/** Coloured tokens of a line that are shown. */
const mostTokens = 60

export type Token = { type: string; value: string }
const plain = new Set(['identifier', 'sign', 'space', 'break', 'jsxliterals'])

/** Neighbours without a colour as one. */
const merged = (tokens: readonly ParsedToken[]): Token[] | undefined => {
  const found: Token[] = []
  let coloured = 0
  for (const { type, value } of tokens) {
    const text = value.replace('\n', '')
    if (text === '') continue
    const last = found.at(-1)
    const kind = plain.has(type) ? '' : type
    if (kind) coloured++
    if (last?.type === kind) last.value += text
    else found.push({ type: kind, value: text })
  }
  return coloured > mostTokens ? undefined : found
}

export const makeColours = (language: string | null) => {
  const name = language ? lang(language.toLowerCase()) : undefined
  const config = languages.find(({ id }) => id === name)?.config
  let lines: readonly string[] = []
  const tokens: (Token[] | undefined)[] = []
  /** the first line of each piece */
  const begins: number[] = []
  const colours = {
    /** lines that were read */
    get done(): number {
      return name ? tokens.length : Infinity
    },
    get pieces(): number {
      return begins.length
    },
    of: (line: number): Token[] | undefined => tokens[line],
    /** The code's lines by now: what did not change keeps its colours. */
    set(now: readonly string[]): void {
      if (now === lines) return
      let same = 0
      while (same < lines.length && now[same] === lines[same]) same++
      lines = now
      while ((begins.at(-1) ?? -1) >= same) tokens.length = begins.pop() as number
      // The last piece may go on.
      if (begins.length > 0) tokens.length = begins.pop() as number
    },
    /** Reads one piece more. */
    next(): void {
      const begin = tokens.length
      begins.push(begin)
      const take = (chars: number): { text: string; end: number } => {
        let end = begin
        let text = ''
        for (; end < lines.length && text.length + (lines[end] as string).length <= chars; end++)
          text += `${lines[end]}\n`
        return { text, end }
      }
      for (const chars of [short, long]) {
        const { text, end } = take(chars)
        if (end === begin) break
        // What follows shows whether a comment or a string has ended.
        const found = parse(`${text}x`, config).lines
        const open = ['comment', 'string'].includes(found[end - begin]?.tokens.at(-1)?.type ?? '')
        if (open && chars < long && end < lines.length) continue
        for (let line = begin; line < end; line++) tokens[line] = merged(found[line - begin]?.tokens ?? [])
        return
      }
      // One line that is too long.
      tokens.length = begin + 1
    },
  }
  return colours
}
