// Code in colours, a line at a time, as it is shown in a terminal.
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

/** Lines of a block that are parsed anew with each further one: what spans lines is known, and long blocks stay cheap. */
const most = 400

const show = (paint: Paint, tokens: readonly ParsedToken[]): string =>
  tokens
    .map(({ type, value }) => {
      const colour = colours[type]
      return colour ? paint(colour, value) : value
    })
    .join('')

/** -> gives each next line of a block of code its colours; none if nobody knows the language. */
export const makeColourist = (paint: Paint, language: string | null): ((line: string) => string) => {
  const name = language ? lang(language.toLowerCase()) : undefined
  const config = languages.find(({ id }) => id === name)?.config
  if (!name) return (line) => line
  const lines: string[] = []
  return (line) => {
    lines.push(line)
    const text = lines.length > most ? line : lines.join('\n')
    return show(paint, parse(text, config).lines.at(-1)?.tokens ?? []) || line
  }
}
