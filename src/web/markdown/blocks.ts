// The block part of Markdown: CommonMark's algorithm (each line continues the open containers, then may begin new ones), with GitHub's
// tables and task lists. HTML blocks are paragraphs of their source. Containers nest up to a bound, so a line costs a bounded number of steps.
import { begins } from './block-starts.ts'
import { htmlBegins } from './html.ts'
import { indent, look, makeLine, restOf, skipColumns, skipOne, skipSpace, type Line } from './line.ts'
import { nodeOf, shows } from './nodes.ts'
import { add, finalize, isLeaf, makeOpenBlocks, type Open, type OpenBlocks } from './open-blocks.ts'
import type { References } from './references.ts'
import type { Top } from './tree.ts'

/** Whether the line continues an open block; `ends`: it is the end of a fence, and done with. */
const continues = (line: Line, one: Open): boolean | 'ends' => {
  switch (one.kind) {
    case 'quote':
      if (indent(line) > 3 || line.text[line.next] !== '>') return false
      skipSpace(line)
      skipColumns(line, 1)
      skipOne(line)
      return true
    case 'item':
      if (line.blank) {
        if (one.children.length === 0) return false
        skipSpace(line)
      } else if (indent(line) >= one.size) skipColumns(line, one.size)
      else return false
      return true
    case 'fence': {
      const rest = line.text.slice(line.next).trimEnd()
      if (indent(line) <= 3 && rest.length >= one.size && rest === one.mark.repeat(rest.length)) return 'ends'
      skipColumns(line, Math.min(indent(line), one.number ?? 0))
      return true
    }
    case 'indented':
      if (indent(line) >= 4) skipColumns(line, 4)
      else if (line.blank) skipSpace(line)
      else return false
      return true
    case 'html':
      return !line.blank || one.mark !== ''
    case 'paragraph':
    case 'table':
      return !line.blank
    case 'heading':
    case 'rule':
      return false
    default:
      return true
  }
}

/** Reads a line into the blocks. */
const incorporate = (line: Line, blocks: OpenBlocks): void => {
  line.offset = line.column = 0
  line.partTab = false
  let container = blocks.document
  for (let child = container.children.at(-1); child?.open; child = container.children.at(-1)) {
    look(line)
    const goes = continues(line, child)
    if (goes === 'ends') return finalize(blocks, child)
    if (!goes) break
    container = child
  }
  const matched = container
  const allMatched = matched === blocks.tip
  let closed = false
  const close = (): void => {
    if (closed) return
    closed = true
    while (blocks.tip !== matched) finalize(blocks, blocks.tip)
  }
  /** where the paragraph's part of the line begins: its indentation is kept */
  let kept = line.offset
  let leaf = isLeaf(container) && container.kind !== 'paragraph' && container.kind !== 'table'
  while (!leaf) {
    look(line)
    kept = line.offset
    const begun = begins(line, blocks, container, close)
    if (begun === 'line') return
    if (!begun) break
    container = blocks.tip
    leaf = begun === 'leaf'
  }
  if (!closed && !allMatched && !line.blank && blocks.tip.kind === 'paragraph') {
    // A lazy line: it continues the paragraph, though not its containers.
    blocks.tip.lines.push(line.text.slice(line.next))
    return
  }
  close()
  if (leaf) {
    blocks.tip.lines.push(restOf(line))
    if (container.kind === 'html' && htmlBegins[Number(container.mark || 6)]?.[1]?.test(line.text.slice(line.offset)))
      finalize(blocks, container)
  } else if (container.kind === 'table' || container.kind === 'paragraph') {
    if (!line.blank) container.lines.push(line.text.slice(container.lines.length > 0 ? kept : line.next))
  } else if (!line.blank) add(blocks, 'paragraph').lines.push(line.text.slice(line.next))
}

/** `done` of the tops can't change when the text grows; what comes after them begins at `rest`. `references` were defined before it. */
export type Read = { tops: Top[]; done: number; rest: number; references: References }

/** The blocks of a text from a place on. `given`: references that were defined before it. */
export const readBlocks = (text: string, from = 0, given: References = new Map()): Read => {
  const references: References = new Map(given)
  const blocks = makeOpenBlocks(from, references)
  const { children } = blocks.document
  const line = makeLine()
  let done = 0
  for (let at = from; at < text.length;) {
    const end = text.indexOf('\n', at)
    line.text = text.slice(at, end < 0 ? text.length : end)
    blocks.from = at
    incorporate(line, blocks)
    blocks.before = at
    if (end < 0) break
    // The last line may still grow, and the last block with it.
    done = Math.max(0, children.length - 1)
    while (children[done]?.kind === 'table' && children[done]?.size === 1) done--
    at = end + 1
  }
  while (blocks.tip !== blocks.document) finalize(blocks, blocks.tip)

  const rest = children[done]?.from ?? from
  const tops = children.filter(shows).map((one): Top => {
    const count = { elements: 0 }
    const node = nodeOf(one, references, count)
    return { node, from: one.from, elements: count.elements }
  })
  const kept: References = new Map(given)
  for (const { name, href, from } of blocks.defined) if (from < rest) kept.set(name, href)
  return { tops, done: children.slice(0, done).filter(shows).length, rest, references: kept }
}
