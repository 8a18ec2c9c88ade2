// Texts that are hard to parse, to lay out or to read.
const most = 10_000
/** Repeats a piece as often as it fits into a message. */
export const filled = (piece: string, length = most): string => piece.repeat(Math.floor(length / piece.length))

export const heavy: Record<string, string> = {
  'delimiters that open': filled('*a_'),
  'delimiters that close': filled('__a*'),
  emphasis: filled('*a**'),
  'strong words': filled('**a** '),
  'nested quotes': `${'> '.repeat(2000)}deep\n${filled('> > > q\n', 5000)}`,
  'nested lists': `${'- '.repeat(1000)}deep\n${filled('  - a\n', 7000)}`,
  'many lists': filled('- a\n\n'),
  'long words': filled(`${'w'.repeat(3000)} `),
  headings: filled('# h\n'),
  'a wide table': `${'|a'.repeat(1650)}\n${'|-'.repeat(1650)}\n${'a\n'.repeat(1600)}`,
  'a long table': `|a|b|c|\n|-|-|-|\n${filled('|1|**2**|`3`|\n', 9900)}`,
  'half a link': filled('[a](b'),
  brackets: `[x]: y\n${'['.repeat(4900)}${']'.repeat(4900)}`,
  fences: filled('```\n'),
  'strings in a line of code': `\`\`\`js\n${filled('"a"', 9900)}\n\`\`\``,
  'dashes in code': `\`\`\`css\n${filled('--', 9900)}\n\`\`\``,
  'lines of code': `\`\`\`js\n${filled('let a = "b" // c\n', 9900)}\`\`\``,
  'inline code': filled('`a` '),
  addresses: filled('https://a.b '),
  'stacked accents': filled('e\u0301\u0302\u0303\u0304\u0305'),
  'reversed text directions': filled('\u202ea\u2066b '),
  paragraphs: filled('a\n\n'),
}
/** 160 KB in 40,000 lines. */
export const csv = '1,2\n'.repeat(40_000)
/** A draft of 12,000 characters: paragraphs, lists, code, and emphasis that is never closed. */
export const draft = `${Array.from(
  { length: 40 },
  (_, n) =>
    `## Step ${n}\n\nSome **words** and \`code\`, *a_ __b*, and a [link](https://example.org/${n}).\n\n- one\n- two\n\n`,
).join('')}\`\`\`js\n${'const a = { b: "c" } // d\n'.repeat(120)}\`\`\`\n${filled('*a_', 12_000)}`.slice(0, 12_000)
