// Syntax highlighting of code for a terminal, line by line.
import { parse, type ParsedToken, type TokenType } from 'sugar-high/core'
import { lang, languages } from 'sugar-high/lang'
import type { Colour, Paint } from './output.ts'

const colours: Partial<Record<TokenType, Colour>> = {
  keyword: 'magenta',
  string: 'green',
  class: 'yellow',
  property: 'cyan',
  entity: 'blue',
  comment: 'dim',
}

/**
 * Up to this many lines, all lines of a block are parsed again with each new one, so that strings and comments may span lines.
 * Each further line is parsed alone, because parsing long blocks again would be slow.
 */
const mostLines = 400

const show = (paint: Paint, tokens: readonly ParsedToken[]): string =>
  tokens
    .map(({ type, value }) => {
      const colour = colours[type]
      return colour ? paint(colour, value) : value
    })
    .join('')

/** Returns a function that colours a block's next line. If the language is unknown, it returns the line unchanged. */
export const makeColourist = (paint: Paint, language: string | null): ((line: string) => string) => {
  const name = language ? lang(language.toLowerCase()) : undefined
  const config = languages.find(({ id }) => id === name)?.config
  if (!name) return (line) => line
  const lines: string[] = []
  return (line) => {
    lines.push(line)
    const text = lines.length > mostLines ? line : lines.join('\n')
    return show(paint, parse(text, config).lines.at(-1)?.tokens ?? []) || line
  }
}
