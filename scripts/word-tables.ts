// Generates the tables of the word rule (docs/search.md): db/functions/unicode.sql for Postgres, src/database/search/unicode-letters.ts
// and unicode-folds.ts for Node, from the Unicode data of the Node that runs it. All versions of Postgres and Node use these tables
// instead of their own Unicode data.
// node --import ./test/typescript.js scripts/word-tables.ts
// If the tables change, words change: raise deck.word_rule() in the same commit.
import { writeFile } from 'node:fs/promises'

type Range = [first: number, last: number]

// Characters assigned after Unicode 13 (Postgres 14) that have a combining class or a decomposition, or are part of one. Their NFC form
// depends on the version of Postgres, so they are not word characters.
const unstable =
  '897-89f 8ca-8d2 c3c 1715 1ac1-1add 1ae0-1aeb 1dfa 105c9 105d2 105da 105e4 10d69-10d6d 10efa-10efb 10efd-10eff 10f82-10f85 11070 ' +
  '11382-11385 1138b 1138e 11390-11391 113b8 113bb 113c2 113c5 113c7-113c9 113ce-113d0 11f41-11f42 1611e-16129 1612f 16d63 ' +
  '16d67-16d6a 1e08f 1e2ae 1e4ec-1e4ef 1e5ee-1e5ef 1e6e3 1e6e6 1e6ee-1e6ef 1e6f5'
const isUnstable = (code: number): boolean =>
  unstable.split(' ').some((range) => {
    const [first = 0, last = first] = range.split('-').map((hex) => parseInt(hex, 16))
    return first <= code && code <= last
  })

/** Every character outside ASCII, but for surrogates. */
const all = Array.from({ length: 0x110000 - 0x80 }, (_, i) => i + 0x80).filter((code) => code < 0xd800 || code > 0xdfff)
const rangesOf = (fits: (character: string) => boolean): Range[] => {
  const ranges: Range[] = []
  for (const code of all) {
    const character = String.fromCodePoint(code)
    if (!fits(character) || /\p{Default_Ignorable_Code_Point}/u.test(character) || isUnstable(code)) continue
    const last = ranges.at(-1)
    if (last?.[1] === code - 1) last[1] = code
    else ranges.push([code, code])
  }
  return ranges
}
const has = (ranges: Range[], code: number): boolean => ranges.some(([first, last]) => first <= code && code <= last)

const letters = rangesOf((character) => /[\p{L}\p{N}]/u.test(character))
const marks = rangesOf((character) => /[\p{Mn}\p{Mc}]/u.test(character))
const unspaced = rangesOf((character) =>
  /(?=[\p{L}\p{N}])[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{sc=Thai}\p{sc=Lao}\p{sc=Khmer}\p{sc=Myanmar}]/u.test(
    character,
  ),
)

// Unicode case folding: characters with the same uppercase form are equal (ß and SS, σ and ς). All forms of i are equal, for Turkish.
const folds = new Map<string, string>()
for (const code of all) {
  const character = String.fromCodePoint(code)
  const folded = character === '\u0130' ? 'i' : character.toUpperCase().toLowerCase()
  if (folded !== character && (has(letters, code) || has(marks, code))) folds.set(character, folded)
}
// The result of a fold is folded again.
const fold = (text: string): string => Array.from(text, (character) => folds.get(character) ?? character).join('')
for (const [character, folded] of folds) folds.set(character, fold(folded))

const cased = rangesOf((character) => folds.has(character))

const escape = (code: number): string =>
  code > 0xffff ? `\\U${code.toString(16).padStart(8, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`
const classOf = (ranges: Range[]): string =>
  ranges
    .map(([first, last]) =>
      first === last ? escape(first) : `${escape(first)}${last > first + 1 ? '-' : ''}${escape(last)}`,
    )
    .join('')
const jsonOf = (text: string): string =>
  Array.from({ length: text.length }, (_, i) => `\\u${text.charCodeAt(i).toString(16).padStart(4, '0')}`)
    .join('')
    .replace(/\\u00(6[1-9a-f]|7[0-9a])/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)))
const foldsOf = Array.from(folds, ([character, folded]) => `"${jsonOf(character)}":"${jsonOf(folded)}"`).join(',')
/** Splits a text into lines of up to `width` characters, never inside an escape. */
const lines = (text: string, width = 130): string[] =>
  text.match(new RegExp(`.{1,${width}}(?=\\\\[uU]|"\\\\u|$)`, 'g')) ?? []

const made = `Made by scripts/word-tables.ts (Unicode ${process.versions.unicode}): characters outside ASCII, as a part of a bracket expression.`
const sqlOf = (name: string, text: string, comment: string): string =>
  `-- ${comment}\ncreate or replace function deck.${name}() returns text language sql immutable parallel safe\n  return '${lines(text).join("'\n    '")}';\n`

await writeFile(
  new URL('../db/functions/unicode.sql', import.meta.url),
  [
    `-- ${made}\n`,
    sqlOf('letters', classOf(letters), 'Letters and digits.'),
    sqlOf('marks', classOf(marks), 'Marks that belong to the letter before them.'),
    sqlOf('unspaced', classOf(unspaced), 'Letters of scripts that are written without spaces between words.'),
    sqlOf('cased', classOf(cased), 'Letters that case folding changes.'),
    sqlOf('folds', `{${foldsOf}}`, 'JSON: what case folding makes of them.'),
  ].join('\n'),
)
// (The wider lines keep each file under 250 of them.)
const tsOf = (name: string, text: string, comment: string): string =>
  `/** ${comment} */\nexport const ${name} = joined(String.raw\`\n  ${lines(text, 150).join('\n  ')}\`)\n`
const inJs = (ranges: Range[]): string => classOf(ranges).replace(/\\U0*([0-9a-f]+)/g, '\\u{$1}')
const writeTables = (file: string, tables: string[]): Promise<void> =>
  writeFile(
    new URL(`../src/database/search/${file}`, import.meta.url),
    [
      `// ${made}\n// db/functions/unicode.sql has the same for Postgres.\nconst joined = (text: string): string => text.replace(/\\s/g, '')\n`,
      ...tables,
    ].join('\n'),
  )
await writeTables('unicode-letters.ts', [
  tsOf('letters', inJs(letters), 'Letters and digits.'),
  tsOf('marks', inJs(marks), 'Marks that belong to the letter before them.'),
  tsOf('unspaced', inJs(unspaced), 'Letters of scripts that are written without spaces between words.'),
])
await writeTables('unicode-folds.ts', [
  tsOf('folds', `{${foldsOf}}`, 'JSON: what case folding makes of the letters that it changes.'),
])
