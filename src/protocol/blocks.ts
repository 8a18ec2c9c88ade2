// Code blocks of a message: its fenced code blocks, as the reference implementation of CommonMark reads them.
import { Parser } from 'commonmark'
import { deny } from './errors.ts'
import type { CodeBlock } from './rows.ts'
import { storable } from './text.ts'

// Blocks only: what stands inside a paragraph makes no fence, and costs up to half a second (many half-open links).
const parser = Object.assign(new Parser(), { processInlines: () => undefined })
/** Bytes of UTF-8 that a message's code blocks may hold, languages and code together. */
export const codeBlocksBytes = 256 * 1024
/** Code blocks that a sender may give: more than the longest Markdown has. */
export const mostCodeBlocks = 32_768

/** The fenced code blocks of a Markdown text; null if there are none. */
export const fencedBlocks = (markdown: string): CodeBlock[] | null => {
  // Parsing costs some 20 us; most messages have no fence.
  if (!markdown.includes('```') && !markdown.includes('~~~')) return null
  const blocks: CodeBlock[] = []
  const walker = parser.parse(markdown).walker()
  for (let step = walker.next(); step; step = walker.next()) {
    const { type, info, literal } = step.node
    // An indented block has no info string at all, a fenced one has at least an empty one.
    if (!step.entering || type !== 'code_block' || info === null) continue
    const language = /\S+/.exec(info)?.[0] ?? null
    blocks.push({ language, code: literal ?? '' })
  }
  return blocks.length > 0 ? blocks : null
}

/** The blocks as given, in canonical form; over 256 KiB of UTF-8 in all, too many, or not storable: `bad_request`. */
export const givenBlocks = (given: { language?: string | null; code: string }[]): CodeBlock[] => {
  if (given.length > mostCodeBlocks) throw deny('bad_request', 'over 32,768 code_blocks')
  const blocks = given.map(({ language, code }) => ({ language: language ?? null, code }))
  let bytes = 0
  for (const { language, code } of blocks) {
    if (!storable(code) || !storable(language ?? '')) throw deny('bad_request', 'U+0000 can not be stored')
    bytes += Buffer.byteLength(code) + Buffer.byteLength(language ?? '')
  }
  if (bytes > codeBlocksBytes) throw deny('bad_request', 'code_blocks hold over 256 KiB')
  return blocks
}

/** Blocks as they stand in a row (written by anyone) or, if it has none, those of its Markdown. */
export const blocksOf = (stored: string | null, markdown: string): CodeBlock[] | null => {
  if (stored === null) return fencedBlocks(markdown)
  const value: unknown = JSON.parse(stored)
  if (!Array.isArray(value)) return null
  return value.map((block: Partial<CodeBlock> | null) => ({
    language: block?.language ?? null,
    code: String(block?.code ?? ''),
  }))
}
