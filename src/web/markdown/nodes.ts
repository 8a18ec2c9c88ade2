// The tree of a block that was read.
import { decode, unescape } from './characters.ts'
import { inlines } from './inlines.ts'
import type { Open } from './open-blocks.ts'
import type { References } from './references.ts'
import { cellsOf } from './tables.ts'
import { codeElements, type Inline, type Node } from './tree.ts'

/** A paragraph of definitions only shows nothing. */
export const shows = ({ kind, lines }: Open): boolean => kind !== 'paragraph' || lines.length > 0

/** A block's tree. The recursion is as deep as containers may nest. */
export const nodeOf = (one: Open, references: References, count: { elements: number }): Node => {
  const inner = (text: string): Inline[] => {
    const found = inlines(text, references)
    count.elements += found.elements
    return found.inner
  }
  const blocks = ({ children }: Open): Node[] => children.filter(shows).map((child) => nodeOf(child, references, count))
  count.elements++
  switch (one.kind) {
    case 'quote':
      return { type: 'quote', blocks: blocks(one) }
    case 'list':
      return {
        type: 'list',
        start: one.number,
        items: one.children.map((item) => {
          count.elements++
          const first = item.children[0]
          const box = first?.kind === 'paragraph' ? /^\[([ xX])\][ \t]+(?=\S)/.exec(first.lines[0] ?? '') : null
          if (first && box) {
            count.elements++
            first.lines[0] = (first.lines[0] ?? '').slice(box[0].length)
          }
          return { task: box ? box[1] !== ' ' : undefined, blocks: blocks(item) }
        }),
      }
    case 'table': {
      const [head = '', ...rest] = one.lines
      const columns = cellsOf(head).length
      count.elements += 3
      return {
        type: 'table',
        rows: [head, ...rest].map((row) => {
          count.elements++
          return cellsOf(row)
            .slice(0, columns)
            .map((cell) => {
              count.elements++
              return inner(cell)
            })
        }),
      }
    }
    case 'fence':
    case 'indented': {
      const { lines, info } = one
      if (one.kind === 'indented') while (lines.at(-1)?.trim() === '') lines.pop()
      const words = info.replace(/\\[!-/:-@[-`{-~]|&[^\s;]{1,8};/g, (found) =>
        unescape(found[0] === '&' ? decode(found) : found),
      )
      const language = /\S+/.exec(words)?.[0] ?? null
      const text = lines.map((line) => `${line}\n`).join('')
      count.elements += codeElements(text)
      return { type: 'code', fenced: one.kind === 'fence', language, text }
    }
    case 'html':
      count.elements += one.lines.length
      return { type: 'html', inner: [one.lines.join('\n').trimEnd()] }
    case 'heading':
      return { type: 'heading', depth: one.size, inner: inner(one.lines.join('\n').trimEnd()) }
    case 'rule':
      return { type: 'rule' }
    default:
      return { type: 'paragraph', inner: inner(one.lines.join('\n').trimEnd()) }
  }
}
