// A message's Markdown as elements. What it may become is decided here and in markdown.ts: elements of this list, text, and safe links.
import type { ComponentChildren, VNode } from 'preact'
import type { Token, Tokens } from 'marked'
import { blocksOf, decode, parse, safeHref, type Block } from '../markdown.ts'
import { Code } from './Code.tsx'
import { memo } from './memo.tsx'

/** Levels that are shown as such; deeper ones are their text. */
const deepest = 16

const inner = (token: Token, depth: number): ComponentChildren => {
  const { tokens } = token as { tokens?: Token[] }
  if (tokens === undefined || depth > deepest) return decode((token as { text?: string }).text ?? token.raw)
  return tokens.map((one, n) => <Node key={n} token={one} depth={depth + 1} />)
}

const Link = ({ href, children }: { href: string; children: ComponentChildren }) => {
  const safe = safeHref(href)
  if (safe === undefined) return <>{children}</>
  return (
    <a href={safe} title={safe} target="_blank" rel="noopener noreferrer">
      {children}
    </a>
  )
}

const List = ({ token, depth }: { token: Tokens.List; depth: number }) => {
  const items = token.items.map((item, n) => (
    <li key={n} class={item.task ? 'task' : undefined}>
      {item.task && <span class="box">{item.checked ? '☑' : '☐'} </span>}
      {inner(item, depth)}
    </li>
  ))
  return token.ordered ? <ol start={Number(token.start) || 1}>{items}</ol> : <ul>{items}</ul>
}

const Table = ({ token, depth }: { token: Tokens.Table; depth: number }) => (
  <div class="table" tabIndex={0} role="group" aria-label="table">
    <table>
      <thead>
        <tr>
          {token.header.map((cell, n) => (
            <th key={n}>{inner(cell as unknown as Token, depth)}</th>
          ))}
        </tr>
      </thead>
      <tbody>
        {token.rows.map((row, n) => (
          <tr key={n}>
            {row.map((cell, m) => (
              <td key={m}>{inner(cell as unknown as Token, depth)}</td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  </div>
)

const Node = ({ token, depth }: { token: Token; depth: number }): VNode | null => {
  const within = (): ComponentChildren => inner(token, depth)
  switch (token.type) {
    case 'space':
    case 'def':
    case 'checkbox':
      return null
    case 'heading':
      return <p class={`heading h${(token as Tokens.Heading).depth}`}>{within()}</p>
    case 'paragraph':
      return <p>{within()}</p>
    case 'blockquote':
      return <blockquote>{within()}</blockquote>
    case 'list':
      return <List token={token as Tokens.List} depth={depth + 1} />
    case 'table':
      return <Table token={token as Tokens.Table} depth={depth} />
    case 'hr':
      return <hr />
    case 'code': {
      const { text, lang } = token as Tokens.Code
      return <Code code={text} language={lang?.split(/\s/)[0] || null} />
    }
    case 'strong':
      return <strong>{within()}</strong>
    case 'em':
      return <em>{within()}</em>
    case 'del':
      return <del>{within()}</del>
    case 'codespan':
      return <code>{(token as Tokens.Codespan).text}</code>
    case 'br':
      return <br />
    case 'link':
      return <Link href={(token as Tokens.Link).href}>{within()}</Link>
    case 'image': {
      const { href, text } = token as Tokens.Image
      return <Link href={href}>{decode(text) || href}</Link>
    }
    case 'escape':
      return <>{(token as Tokens.Escape).text}</>
    case 'text':
      return <>{within()}</>
    // HTML, and whatever else there may be: its source.
    default:
      return token.type === 'html' && (token as Tokens.HTML).block ? <p>{token.raw.trimEnd()}</p> : <>{token.raw}</>
  }
}

type Props = { text: string; blocks?: readonly Block[] | null }

/** A message, and the code blocks that came with it but do not stand in its text. Made once for a text. */
export const Markdown = memo(({ text, blocks: given }: Props) => {
  const blocks = given ?? []
  const tokens = parse(text)
  const shown = new Set(blocks.length > 0 ? blocksOf(tokens).map(({ code }) => code.trim()) : [])
  const others = blocks.filter(({ code }) => !shown.has(code.trim()))
  return (
    <div class="markdown" dir="auto">
      {tokens.map((token, n) => (
        <Node key={n} token={token} depth={0} />
      ))}
      {others.map(({ language, code }, n) => (
        <Code key={`block ${n}`} code={code} language={language} />
      ))}
    </div>
  )
})
