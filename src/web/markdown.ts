// Markdown as a tree of blocks, and what may come of it: no HTML is ever made or taken over, so that there is nothing to sanitise.
// HTML in a message is shown as the text that it is; a link leads to http, https or mailto, or is no link; an image is a link.
import { readBlocks } from './markdown/blocks.ts'
import { decode } from './markdown/characters.ts'
import type { References } from './markdown/references.ts'
import { codeElements, codeLines, type Inline, type Node, type Top } from './markdown/tree.ts'

export { codeElements, codeLines, decode }
export type { Inline, Node, Top }

const normal = (text: string): string => (text.includes('\r') ? text.replace(/\r\n?/g, '\n') : text)

/** The text's blocks. */
export const parse = (text: string): Node[] => readBlocks(normal(text)).tops.map(({ node }) => node)

/** Reads a text that grows: of a longer one only what follows the blocks that can't change any more. `read` counts characters. */
export const makeReader = () => {
  let text = ''
  let kept: Top[] = []
  let rest = 0
  let references: References = new Map()
  let tops: Top[] = []
  const reader = {
    read: 0,
    tops(given: string): readonly Top[] {
      const now = normal(given)
      if (now === text) return tops
      if (!now.startsWith(text)) {
        kept = []
        rest = 0
        references = new Map()
      }
      text = now
      reader.read += now.length - rest
      const found = readBlocks(now, rest, references)
      tops = [...kept, ...found.tops]
      kept = tops.slice(0, kept.length + found.done)
      ;({ rest, references } = found)
      return tops
    },
  }
  return reader
}

/** Where a link may lead, or nowhere. */
export const safeHref = (href: string): string | undefined => {
  try {
    const url = new URL(decode(href))
    return ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : undefined
  } catch {
    return undefined
  }
}

export type Block = { language: string | null; code: string }

/** The fenced blocks of a text, as far as they show in it. */
export const blocksOf = (nodes: readonly Node[]): Block[] =>
  nodes.flatMap((node): Block[] => {
    if (node.type === 'code') return node.fenced ? [{ language: node.language, code: node.text }] : []
    if (node.type === 'list') return node.items.flatMap(({ blocks }) => blocksOf(blocks))
    return node.type === 'quote' ? blocksOf(node.blocks) : []
  })

/** A fence that a code does not contain. */
export const fence = (code: string, language: string | null): string => {
  let longest = 2
  for (const [, ticks = ''] of code.matchAll(/^ {0,3}(`+)/gm)) longest = Math.max(longest, ticks.length)
  const ticks = '`'.repeat(longest + 1)
  return `${ticks}${language ?? ''}\n${code.replace(/\n?$/, '\n')}${ticks}\n`
}
