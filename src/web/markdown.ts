// Markdown as a tree of tokens, and what may come of it: no HTML is ever made or taken over, so that there is nothing to sanitise.
// HTML in a message is shown as the text that it is; a link leads to http, https or mailto, or is no link; an image is a link.
import { Marked, type Token } from 'marked'

const marked = new Marked({ gfm: true, breaks: true })

/** The message's blocks; a text that the parser can't take, as one too deep for it, is one paragraph. */
export const parse = (text: string): Token[] => {
  try {
    return marked.lexer(text)
  } catch {
    return [{ type: 'text', raw: text, text }]
  }
}

const names: Record<string, string> = {
  amp: '&',
  lt: '<',
  gt: '>',
  quot: '"',
  apos: "'",
  nbsp: '\u00a0',
  copy: '©',
  reg: '®',
  trade: '™',
  hellip: '…',
  mdash: '—',
  ndash: '–',
  laquo: '«',
  raquo: '»',
  ldquo: '“',
  rdquo: '”',
  lsquo: '‘',
  rsquo: '’',
  bull: '•',
  middot: '·',
  times: '×',
  deg: '°',
  euro: '€',
  larr: '←',
  rarr: '→',
  uarr: '↑',
  darr: '↓',
  check: '✓',
}

/** Character references as characters; a name that is rare stays as it was written. */
export const decode = (text: string): string =>
  text.replace(/&(?:#(\d{1,7})|#[xX]([\da-fA-F]{1,6})|([a-zA-Z]{2,8}));/g, (whole, decimal, hex, name: string) => {
    if (name) return names[name] ?? whole
    const code = decimal ? Number(decimal) : parseInt(hex as string, 16)
    return code > 0 && code <= 0x10ffff && !(code >= 0xd800 && code < 0xe000) ? String.fromCodePoint(code) : '\ufffd'
  })

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
export const blocksOf = (tokens: Token[]): Block[] =>
  tokens.flatMap((token): Block[] => {
    if (token.type === 'code') {
      const language = (token['lang'] as string | undefined)?.split(/\s/)[0]
      return token['codeBlockStyle'] === 'indented'
        ? []
        : [{ language: language || null, code: `${String(token['text'])}\n` }]
    }
    const { tokens = [], items = [] } = token as { tokens?: Token[]; items?: Token[] }
    return blocksOf([...tokens, ...items])
  })

/** A fence that a code does not contain. */
export const fence = (code: string, language: string | null): string => {
  const longest = Math.max(2, ...[...code.matchAll(/^ {0,3}(`+)/gm)].map(([, ticks = '']) => ticks.length))
  const ticks = '`'.repeat(longest + 1)
  return `${ticks}${language ?? ''}\n${code.replace(/\n?$/, '\n')}${ticks}\n`
}
