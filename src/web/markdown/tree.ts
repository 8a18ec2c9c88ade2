// The tree of a Markdown text: blocks, what stands in their lines, and how many elements show a block.

export type Inline =
  | string
  | { type: 'code'; text: string }
  | { type: 'em' | 'strong' | 'del'; inner: Inline[] }
  | { type: 'link'; href: string; inner: Inline[] }

export type Node =
  | { type: 'paragraph' | 'html'; inner: Inline[] }
  | { type: 'heading'; depth: number; inner: Inline[] }
  | { type: 'quote'; blocks: Node[] }
  | { type: 'list'; start: number | undefined; items: { task: boolean | undefined; blocks: Node[] }[] }
  | { type: 'table'; rows: Inline[][][] }
  | { type: 'code'; fenced: boolean; language: string | null; text: string }
  | { type: 'rule' }

/** A block that no other block contains: its tree, where it begins in the text, and the number of elements that show it. */
export type Top = { node: Node; from: number; elements: number }

/** Lines of code that are elements at a time. */
export const codeLines = 64
/** The elements that show a block of code: its lines, and what stands around them. */
export const codeElements = (code: string): number => {
  let lines = 0
  for (let at = 0; at >= 0 && lines < codeLines; lines++) at = code.indexOf('\n', at + 1)
  return lines + 10
}
