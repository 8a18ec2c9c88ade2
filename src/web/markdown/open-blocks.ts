// The blocks of a text while it is read, line by line: the open ones are the path from the document to its tip.
import { define, type References } from './references.ts'

export type Kind =
  'document' | 'quote' | 'list' | 'item' | 'paragraph' | 'heading' | 'rule' | 'fence' | 'indented' | 'html' | 'table'
export type Open = {
  kind: Kind
  parent: Open | undefined
  children: Open[]
  /** containers that it stands in */
  depth: number
  /** where its first line begins in the text */
  from: number
  open: boolean
  lines: string[]
  /**
   * of a heading: its level; of an item: where its content begins, in columns from its parent's; of a fence: its length;
   * of a table: 1 if it began as the last line of the paragraph before it
   */
  size: number
  /** of a fence: its character; of a list: its bullet, or what follows its number; of HTML: what ends it */
  mark: string
  /** of a fence: its indentation; of an ordered list: its first number */
  number: number | undefined
  info: string
}

export type OpenBlocks = {
  document: Open
  /** where the line that is read begins in the text, and where the line before it does */
  from: number
  before: number
  /** the innermost open block */
  tip: Open
  references: References
  /** the references of this text, with the paragraph that began with each */
  defined: { name: string; href: string; from: number }[]
}

const make = (kind: Kind, parent: Open | undefined, from: number): Open => ({
  kind,
  parent,
  children: [],
  depth: parent ? parent.depth + 1 : 0,
  from,
  open: true,
  lines: [],
  size: 0,
  mark: '',
  number: undefined,
  info: '',
})

export const makeOpenBlocks = (from: number, references: References): OpenBlocks => {
  const document = make('document', undefined, from)
  return { document, from, before: 0, tip: document, references, defined: [] }
}

export const isLeaf = ({ kind }: Open): boolean => !['document', 'quote', 'list', 'item'].includes(kind)
const holds = (parent: Open, kind: Kind): boolean =>
  parent.kind === 'list' ? kind === 'item' : !isLeaf(parent) && kind !== 'item'

/** Takes the definitions from a paragraph's beginning; returns whether something is left of it. */
export const takeReferences = (blocks: OpenBlocks, one: Open): boolean => {
  if (!one.lines[0]?.startsWith('[')) return true
  const all = one.lines.join('\n')
  const found: References = new Map()
  const rest = all.slice(define(all, found)).trimStart()
  for (const [name, href] of found) {
    if (blocks.references.has(name)) continue
    blocks.references.set(name, href)
    blocks.defined.push({ name, href, from: one.from })
  }
  if (rest.length < all.length) one.lines = rest.trim() === '' ? [] : rest.split('\n')
  return one.lines.length > 0
}

export const finalize = (blocks: OpenBlocks, one: Open): void => {
  one.open = false
  if (one.kind === 'paragraph') takeReferences(blocks, one)
  blocks.tip = one.parent ?? blocks.document
}

/** Opens a block in the innermost one that may contain it. */
export const add = (blocks: OpenBlocks, kind: Kind): Open => {
  while (!holds(blocks.tip, kind)) finalize(blocks, blocks.tip)
  const one = make(kind, blocks.tip, blocks.from)
  blocks.tip.children.push(one)
  return (blocks.tip = one)
}
