// Code blocks of a message: its fenced code blocks, as parsed by the reference implementation of CommonMark.
import { Parser } from 'commonmark'
import { deny } from './errors.ts'
import type { CodeBlock } from './rows.ts'
import { storable } from './text.ts'

// Inlines are not parsed: they contain no fence, and parsing them may take half a second (many unclosed links).
const parser = Object.assign(new Parser(), { processInlines: () => undefined })
/** Maximum bytes of UTF-8 of a message's code blocks, languages and code together. */
export const codeBlocksBytes = 256 * 1024
/** Maximum number of code blocks that a sender may give: more than the longest Markdown has. */
export const mostCodeBlocks = 32_768

/** Returns the fenced code blocks of a Markdown text; null if it has no fenced code block. */
export const fencedBlocks = (markdown: string): CodeBlock[] | null => {
  // Parsing takes about 20 us; most messages have no fence.
  if (!markdown.includes('```') && !markdown.includes('~~~')) return null
  const blocks: CodeBlock[] = []
  const walker = parser.parse(markdown).walker()
  for (let step = walker.next(); step; step = walker.next()) {
    const { type, info, literal } = step.node
    // An indented block has no info string; a fenced block has one, which may be empty.
    if (!step.entering || type !== 'code_block' || info === null) continue
    const language = /\S+/.exec(info)?.[0] ?? null
    blocks.push({ language, code: literal ?? '' })
  }
  return blocks.length > 0 ? blocks : null
}

/** Returns the given blocks in canonical form. Throws `bad_request` if they are too many, over 256 KiB of UTF-8, or not storable. */
export const givenBlocks = (given: { language?: string | null; code: string }[]): CodeBlock[] => {
  if (given.length > mostCodeBlocks) throw deny('bad_request', 'code_blocks has over 32,768 blocks')
  const blocks = given.map(({ language, code }) => ({ language: language ?? null, code }))
  let bytes = 0
  for (const { language, code } of blocks) {
    if (!storable(code) || !storable(language ?? '')) throw deny('bad_request', 'U+0000 can not be stored')
    bytes += Buffer.byteLength(code) + Buffer.byteLength(language ?? '')
  }
  if (bytes > codeBlocksBytes) throw deny('bad_request', 'code_blocks has over 256 KiB')
  return blocks
}

/** Returns the blocks stored in a row (any SQL writer may have written it). If none are stored, returns the blocks of its Markdown. */
export const blocksOf = (stored: string | null, markdown: string): CodeBlock[] | null => {
  if (stored === null) return fencedBlocks(markdown)
  const value: unknown = JSON.parse(stored)
  if (!Array.isArray(value)) return null
  return value.map((block: Partial<CodeBlock> | null) => ({
    language: block?.language ?? null,
    code: String(block?.code ?? ''),
  }))
}
