// What stands in a line as a tree, from the flat list of items that reading it gave.
import type { Delimiter } from './delimiters.ts'
import type { Inline } from './tree.ts'

/** Levels of emphasis that become elements. */
const deepest = 16

export type Bracket = { written: string; href?: string }
export type Item = Inline | { delimiter: Delimiter } | { bracket: Bracket } | { end: true }

/** The items as a tree, without recursion. */
export const build = (items: Item[]): { inner: Inline[]; elements: number } => {
  const root: Inline[] = []
  const stack: Inline[][] = []
  const inLink: boolean[] = []
  let into = root
  let elements = 0
  const say = (words: string): void => {
    if (words === '') return
    const before = into.at(-1)
    if (typeof before === 'string') into[into.length - 1] = before + words
    else into.push(words)
  }
  const begin = (node?: Extract<Inline, { inner: Inline[] }>): void => {
    const linked = inLink.at(-1) ?? false
    stack.push(into)
    inLink.push(linked || node?.type === 'link')
    // Too deep, or a link in a link: its content only.
    if (!node || stack.length > deepest || (linked && node.type === 'link')) return
    elements++
    into.push(node)
    into = node.inner
  }
  const end = (): void => {
    into = stack.pop() ?? root
    inLink.pop()
  }
  for (const item of items) {
    if (typeof item === 'string') {
      say(item)
      if (item === '\n') elements++
    } else if ('delimiter' in item) {
      const { char, left, ended, begun } = item.delimiter
      ended.forEach(end)
      say(char.repeat(left))
      for (const type of begun.toReversed()) begin({ type, inner: [] })
    } else if ('bracket' in item) {
      const { written, href } = item.bracket
      if (href === undefined) say(written)
      else begin({ type: 'link', href, inner: [] })
    } else if ('end' in item) end()
    else if (item.type === 'link' && inLink.at(-1)) item.inner.forEach((words) => say(words as string))
    else {
      elements++
      into.push(item)
    }
  }
  return { inner: root, elements }
}
