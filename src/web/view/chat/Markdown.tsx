// A message's Markdown as elements. What it may become is decided here and in markdown.ts: elements of this list, text, and safe links.
// A text that would need too many elements is shown as it was written, and says so.
import type { ComponentChildren, VNode } from 'preact'
import { useRef } from 'preact/hooks'
import {
  blocksOf,
  codeElements,
  decode,
  makeReader,
  safeHref,
  type Block,
  type Inline,
  type Node,
  type Top,
} from '../../markdown.ts'
import { isRightToLeft } from '../../format.ts'
import { Code, CodeInTurn, mostBlocks } from './Code.tsx'
import { memo } from '../memo.tsx'
import { useFramed, useTurn } from './turns.ts'

/** Elements and characters of a message that is formatted. */
const [mostElements, mostChars] = [1200, 50_000]
/** What has no more of both is shown at once: short messages do not wait for long ones. */
const [fewElements, fewChars] = [12, 400]
/** Characters whose reading takes as long as an element. */
const charsPerElement = 40
/** Characters of a text that are shown before its turn comes. */
const preview = 800

/** elements that may still be made */
type Made = { left: number }

/** Whether a block's words begin from the right; undefined: there are none. */
const beginsRight = (node: Node): boolean | undefined => {
  const first = <T,>(list: readonly T[], of: (one: T) => boolean | undefined): boolean | undefined => {
    for (const one of list) {
      const found = of(one)
      if (found !== undefined) return found
    }
    return undefined
  }
  const ofInline = (one: Inline): boolean | undefined =>
    typeof one === 'string' ? isRightToLeft(one) : one.type === 'code' ? undefined : first(one.inner, ofInline)
  switch (node.type) {
    case 'list':
      return first(node.items, ({ blocks }) => first(blocks, beginsRight))
    case 'quote':
      return first(node.blocks, beginsRight)
    case 'table':
      return first(node.rows, (row) => first(row, (cell) => first(cell, ofInline)))
    case 'code':
    case 'rule':
      return undefined
    default:
      return first(node.inner, ofInline)
  }
}
const dirOf = (node: Node): 'rtl' | 'ltr' => (beginsRight(node) ? 'rtl' : 'ltr')

const Link = ({ href, children }: { href: string; children: ComponentChildren }) => {
  const safe = safeHref(href)
  if (safe === undefined) return <>{children}</>
  return (
    <a href={safe} title={safe} target="_blank" rel="noopener noreferrer">
      {children}
    </a>
  )
}

/** As many of a text's lines as may be shown. */
const lines = (text: string, made: Made): string => {
  let end = text.indexOf('\n')
  for (; end >= 0 && made.left-- > 0; end = text.indexOf('\n', end + 1));
  return end < 0 ? text : text.slice(0, end)
}

const words = (inner: readonly Inline[], made: Made): ComponentChildren =>
  inner.map((one) => {
    if (typeof one === 'string') return lines(one, made)
    if (made.left-- <= 0) return null
    switch (one.type) {
      case 'code':
        return <code dir="ltr">{one.text}</code>
      case 'strong':
        return <strong>{words(one.inner, made)}</strong>
      case 'em':
        return <em>{words(one.inner, made)}</em>
      case 'del':
        return <del>{words(one.inner, made)}</del>
      case 'link':
        return <Link href={one.href}>{one.inner.length > 0 ? words(one.inner, made) : decode(one.href)}</Link>
    }
  })

/** Blocks in a list or a quote. An item's first paragraph stands on the line of its mark. */
const within = (blocks: readonly Node[], made: Made, inItem = false): ComponentChildren =>
  blocks.map((node, n) =>
    inItem && n === 0 && node.type === 'paragraph' ? words(node.inner, made) : block(node, made),
  )

const block = (node: Node, made: Made): VNode | null => {
  if (made.left-- <= 0) return null
  switch (node.type) {
    case 'heading':
      return (
        <p class={`heading h${node.depth}`} dir="auto">
          {words(node.inner, made)}
        </p>
      )
    case 'paragraph':
    case 'html':
      return <p dir="auto">{words(node.inner, made)}</p>
    case 'quote':
      return <blockquote dir={dirOf(node)}>{within(node.blocks, made)}</blockquote>
    case 'list': {
      const items = node.items.map(({ task, blocks }) =>
        made.left-- <= 0 ? null : (
          <li class={task === undefined ? undefined : 'task'}>
            {task !== undefined && <span class="box">{task ? '☑' : '☐'} </span>}
            {within(blocks, made, true)}
          </li>
        ),
      )
      if (node.start === undefined) return <ul dir={dirOf(node)}>{items}</ul>
      return (
        <ol dir={dirOf(node)} start={node.start}>
          {items}
        </ol>
      )
    }
    case 'table': {
      const [head = [], ...rows] = node.rows
      const cells = (row: Inline[][], Cell: 'th' | 'td'): ComponentChildren =>
        row.map((cell) => (made.left-- <= 0 ? null : <Cell dir="auto">{words(cell, made)}</Cell>))
      return (
        <div class="table" tabIndex={0} role="group" aria-label="table" dir={dirOf(node)}>
          <table>
            <thead>
              <tr>{cells(head, 'th')}</tr>
            </thead>
            <tbody>{rows.map((row) => (made.left-- <= 0 ? null : <tr>{cells(row, 'td')}</tr>))}</tbody>
          </table>
        </div>
      )
    }
    case 'rule':
      return <hr />
    case 'code':
      made.left -= codeElements(node.text)
      return <Code code={node.text} language={node.language} />
  }
}

/** The beginning of a text whose turn has not come. */
const Source = ({ text }: { text: string }) => (
  <p class="source" dir="auto">
    {text.slice(0, preview).split('\n', 8).join('\n')}
  </p>
)

/** A block of its own, as far as it may be shown. */
const Part = memo(({ top, left }: { top: Top; left: number }) => block(top.node, { left }))

type Props = { text: string; blocks?: readonly Block[] | null }

/**
 * A message, and the code blocks that came with it but do not stand in its text. A text that grows is shown once a frame; what its turn
 * does not reach yet is its source.
 */
export const Markdown = memo(({ text: given, blocks }: Props) => {
  const text = useFramed(given)
  const turn = useTurn()
  const held = useRef({ reader: makeReader(), tops: undefined as readonly Top[] | undefined }).current
  const long = text.length > mostChars
  const reading = text.length <= fewChars ? 0 : Math.ceil(text.length / charsPerElement)
  if (!long && turn(reading) >= reading) held.tops = held.reader.tops(text)
  const tops = held.tops ?? []
  const elements = tops.reduce((sum, top) => sum + top.elements, 0)
  const whole = long || elements > mostElements
  let left = reading === 0 && elements <= fewElements ? elements : whole ? 0 : turn(reading + elements) - reading
  const parts = tops.map((top, n) => {
    const part = Math.min(left, top.elements)
    left -= part
    return part > 0 && <Part key={n} top={top} left={part} />
  })
  const shown = new Set(blocks?.length ? blocksOf(tops.map(({ node }) => node)).map(({ code }) => code.trim()) : [])
  const others = (blocks ?? []).filter(({ code }) => !shown.has(code.trim()))
  const next = parts.findIndex((part) => part === false)
  return (
    <div class="markdown">
      {whole ? (
        <>
          <p class="note">Shown as it was written: its formatting has too many parts.</p>
          <CodeInTurn code={text} language={null} />
        </>
      ) : (
        parts
      )}
      {!whole && (!held.tops || next >= 0) && <Source text={held.tops ? text.slice(tops[next]?.from) : text} />}
      {others.slice(0, mostBlocks).map(({ language, code }, n) => (
        <CodeInTurn key={`block ${n}`} code={code} language={language} />
      ))}
      {others.length > mostBlocks && (
        <p class="note">{others.length - mostBlocks} more blocks of code are not shown.</p>
      )}
    </div>
  )
})
