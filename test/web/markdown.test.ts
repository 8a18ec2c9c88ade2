// The page's Markdown, without a browser: parsed like CommonMark's reference implementation, plus GitHub's extensions such as tables.
// The number of steps is linear in the text, and a growing text is not parsed again from its beginning.
import { Parser, type Node as Reference } from 'commonmark'
import fc from 'fast-check'
import t from 'tap'
import { makeReader, parse, type Inline, type Node } from '../../src/web/markdown.ts'
import { inlines } from '../../src/web/markdown/inlines.ts'
import { makeColours } from '../../src/web/view/chat/colours.ts'
import { makePieces } from '../../src/web/pieces.ts'
import { draft, filled, heavy } from './hostile.ts'

type Tree = string | { [name: string]: Tree | Tree[] | number | null | undefined }

/** Joins adjacent texts and removes spaces at line ends: the page keeps indentation, and line breaks as written. */
const joined = (trees: Tree[]): Tree[] => {
  const all: Tree[] = []
  for (const tree of trees) {
    const last = all.at(-1)
    if (typeof tree === 'string' && typeof last === 'string') all[all.length - 1] = last + tree
    else all.push(tree)
  }
  return all
    .map((tree) => (typeof tree === 'string' ? tree.replace(/[ \t]*\n[ \t]*/g, '\n') : tree))
    .filter((tree) => tree !== '')
}
const ofInlines = (list: readonly Inline[]): Tree[] =>
  joined(
    list.map((one): Tree => {
      if (typeof one === 'string') return one
      if (one.type === 'code') return { code: one.text }
      return one.type === 'link' ? { link: ofInlines(one.inner), href: one.href } : { [one.type]: ofInlines(one.inner) }
    }),
  )
const ofNodes = (nodes: readonly Node[]): Tree[] =>
  nodes.map((node): Tree => {
    switch (node.type) {
      case 'quote':
        return { quote: ofNodes(node.blocks) }
      case 'list':
        return { list: node.items.map(({ blocks }) => ({ item: ofNodes(blocks) })), start: node.start }
      case 'code':
        return { code: node.text, language: node.language }
      case 'heading':
        return { heading: ofInlines(node.inner), depth: node.depth }
      case 'paragraph':
        return { paragraph: ofInlines(node.inner) }
      default:
        return node.type
    }
  })

const parts = (node: Reference): Reference[] => {
  const all: Reference[] = []
  for (let child = node.firstChild; child; child = child.next) all.push(child)
  return all
}
const expectedInlines = (nodes: Reference[], inLink = false): Tree[] =>
  joined(
    nodes.flatMap((node): Tree[] => {
      const inner = (): Tree[] => expectedInlines(parts(node), inLink)
      switch (node.type) {
        case 'softbreak':
        case 'linebreak':
          return ['\n']
        case 'code':
          return [{ code: node.literal?.replace(/\n[ \t]*/g, ' ') }]
        case 'emph':
          return [{ em: inner() }]
        case 'strong':
          return [{ strong: inner() }]
        case 'link':
        case 'image':
          // The page has no links inside links, and shows images as links.
          return inLink
            ? inner()
            : [{ link: expectedInlines(parts(node), true), href: decodeURI(node.destination ?? '') }]
        default:
          return [node.literal ?? '']
      }
    }),
  )
const expectedNodes = (nodes: Reference[]): Tree[] =>
  nodes.flatMap((node): Tree[] => {
    switch (node.type) {
      case 'block_quote':
        return [{ quote: expectedNodes(parts(node)) }]
      case 'list':
        return [
          {
            list: parts(node).map((item) => ({ item: expectedNodes(parts(item)) })),
            start: node.listType === 'ordered' ? node.listStart : undefined,
          },
        ]
      case 'code_block':
        return [{ code: node.literal, language: /\S+/.exec(node.info ?? '')?.[0] ?? null }]
      case 'html_block':
        return ['html']
      case 'thematic_break':
        return ['rule']
      case 'heading':
        return [{ heading: expectedInlines(parts(node)), depth: node.level }]
      default: {
        const inner = expectedInlines(parts(node))
        return inner.length === 0 ? [] : [{ paragraph: inner }]
      }
    }
  })

const pieces =
  '* ** _ __ *** ` `` [ ](u) ] ![ a a\u00a0c b\u3000 é — > -\u0020 *\u0020 +\u0020 1.\u0020 2)\u0020 ``` ~~~ #\u0020 ##\u0020 --- === \u0020\u0020\u0020\u0020 \t <a\u0020href="x"> <b > </b> <div> <!-- --> \\ &amp; [x] [x][] ( " \' _a_ <ab:c>'
    .split(' ')
    .map((piece) => piece.replaceAll('\\u0020', ' '))
    .concat([' ', '  ', '\n', '\n', '\n', '\n\n', '  \n', '```\n', '[x]: /u "t"\n', '> ', '- ', '1. ', 'b c'])
const texts = fc.array(fc.constantFrom(...pieces), { maxLength: 18 }).map((list) => list.join(''))

void t.test("markdown: is parsed like CommonMark's reference implementation", (t) => {
  fc.assert(
    fc.property(texts, (text) => {
      // Task lists are a GitHub extension.
      if (/[-+*.)]\s+\[[ xX]\]\s/.test(text)) return
      const expected = JSON.stringify(expectedNodes(parts(new Parser().parse(text))))
      const found = JSON.stringify(ofNodes(parse(text)))
      if (found !== expected) throw new Error(`${JSON.stringify(text)}\n${expected}\n${found}`)
    }),
    { numRuns: 4000 },
  )
  t.end()
})

void t.test("markdown: supports GitHub's tables, strikethrough, tasks and bare links", (t) => {
  t.same(parse('before\n| a | b \\| c |\n|:-|-:|\n| **1** | `2` | 3 |\n| 4\n\nafter'), [
    { type: 'paragraph', inner: ['before'] },
    {
      type: 'table',
      rows: [[['a'], ['b | c']], [[{ type: 'strong', inner: ['1'] }], [{ type: 'code', text: '2' }]], [['4']]],
    },
    { type: 'paragraph', inner: ['after'] },
  ])
  t.same(parse('a | b\n--- | --- | ---')[0]?.type, 'paragraph', 'the delimiter row needs as many cells as the header')
  t.match(parse('~~a~~ ~b~ ~~~c~~~ ~~d~'), [
    { inner: [{ type: 'del', inner: ['a'] }, ' ', { type: 'del', inner: ['b'] }, ' ~~~c~~~ ~~d~'] },
  ])
  t.match(parse('- [x] done\n- [ ] open\n- [x]'), [
    { items: [{ task: true, blocks: [{ inner: ['done'] }] }, { task: false }, { task: undefined }] },
  ])
  const link = (text: string): [string, string][] =>
    inlines(text, new Map()).inner.flatMap((one) =>
      typeof one === 'object' && one.type === 'link'
        ? [[one.inner.map((word) => (typeof word === 'string' ? word : '')).join(''), one.href]]
        : [],
    )
  t.same(link('see https://a.b/c_d_e?f=(g). (www.h.i) x@y.zz, xhttps://no'), [
    ['https://a.b/c_d_e?f=(g)', 'https://a.b/c_d_e?f=(g)'],
    ['www.h.i', 'http://www.h.i'],
    ['x@y.zz', 'mailto:x@y.zz'],
  ])
  t.same(link('**https://a.b** `https://c.d` [https://e.f](https://g.h)'), [['https://e.f', 'https://g.h']])
  t.end()
})

void t.test('markdown: the number of steps is linear in the text', (t) => {
  const bits =
    '*a_|__a*|*a **|a*|**a|_a_|`|``a|[|[a](|](|[a](b|[a](<b|[a](b "|![|[a][b|[x]|<|<a b="|<!--|<?|<![CDATA[|<a:|&|\\|~|~~a|a**b|*_|***|(|[[a]](|*a**|*a_b*c_d*|**a_|_a**'.split(
      '|',
    )
  for (const bit of [...bits, ...Object.values(heavy)]) {
    const text = bit.length > 100 ? bit : filled(bit)
    for (const one of [text, `${text}x${[...text].reverse().join('')}`]) {
      const { steps, elements } = inlines(one, new Map([['A', '/a']]))
      if (steps > 8 * one.length || elements > one.length)
        t.fail(`${steps} steps and ${elements} elements for ${one.length} characters of ${bit.slice(0, 20)}`)
    }
  }
  // Nesting is bounded, so that no line passes through many containers.
  const depth = (nodes: readonly Node[]): number =>
    Math.max(
      0,
      ...nodes.map((node) => {
        if (node.type === 'quote') return 1 + depth(node.blocks)
        return node.type === 'list' ? 1 + Math.max(...node.items.map(({ blocks }) => depth(blocks))) : 0
      }),
    )
  for (const text of ['> ', '- ', '> - ', '1. > '].map((bit) => filled(bit))) t.ok(depth(parse(`${text}x\n\n`)) <= 16)
  t.end()
})

void t.test('markdown: a growing text is parsed like the whole, and only from where it may change', (t) => {
  const growing = fc.array(
    fc.constantFrom(...pieces.filter((piece) => !piece.includes('x]')), '| a | b |\n', '|-|-|\n', '- [ ] '),
    {
      maxLength: 25,
    },
  )
  fc.assert(
    fc.property(growing, fc.boolean(), (list, single) => {
      const reader = makeReader()
      let text = ''
      for (const more of single ? [...list.join('')] : list) {
        text += more
        const found = JSON.stringify(reader.tops(text).map(({ node }) => node))
        const expected = JSON.stringify(parse(text))
        if (found !== expected) throw new Error(`${JSON.stringify(text)}\n${expected}\n${found}`)
      }
    }),
    { numRuns: 1500 },
  )
  const reader = makeReader()
  const steps = Math.ceil(draft.length / 20)
  let first: unknown
  for (let at = 20; at < draft.length + 20; at += 20) first ??= reader.tops(draft.slice(0, at))[1]
  t.equal(reader.tops(draft)[0], reader.tops(draft)[0])
  // Parsing from the beginning each time would read half of the steps times the text.
  const before = draft.indexOf('```js')
  t.ok(before > 4000)
  t.ok(reader.read < (steps * draft.length) / 4, `${reader.read} characters were read for ${draft.length}`)
  const paragraphs = makeReader()
  const plain = 'A paragraph of the draft.\n\n'.repeat(460)
  for (let at = 20; at < plain.length + 20; at += 20) paragraphs.tops(plain.slice(0, at))
  t.ok(paragraphs.read < 6 * plain.length, `${paragraphs.read} characters were read for ${plain.length}`)
  // Definitions also apply to text that arrives later.
  const defined = makeReader()
  defined.tops('[a]: /b\n\nfirst\n\n')
  t.match(defined.tops('[a]: /b\n\nfirst\n\nsecond\n\n[a]').at(-1)?.node, { inner: [{ type: 'link', href: '/b' }] })
  // A different text is parsed from its beginning.
  t.match(defined.tops('[a]'), [{ node: { inner: ['[a]'] } }])
  t.end()
})

void t.test('code colours: are computed in short pieces, span lines, and are kept when lines are added', (t) => {
  const lines = Array.from({ length: 300 }, (_, n) =>
    n % 50 === 20 ? '/* begins' : n % 50 === 30 ? 'ends */' : `const a${n} = "b" // c`,
  )
  const colours = makeColours('js')
  colours.set(lines)
  while (colours.done < lines.length) colours.next()
  const types = (line: number): string[] => colours.of(line)?.map(({ type }) => type) ?? []
  for (let line = 0; line < lines.length; line++) {
    const text = colours
      .of(line)
      ?.map(({ value }) => value)
      .join('')
    if (text !== lines[line]) t.fail(`line ${line}: ${text}`)
    const inside = line % 50 >= 20 && line % 50 <= 30
    if (inside ? types(line).join() !== 'comment' : !types(line).includes('string'))
      t.fail(`line ${line}: ${types(line).join()}`)
  }
  t.ok(colours.pieces > 2)
  const kept = colours.of(0)
  const { pieces } = colours
  colours.set([...lines, 'let more'])
  t.equal(colours.pieces, pieces - 1, 'only the last piece is read again')
  while (colours.done < lines.length + 1) colours.next()
  t.equal(colours.of(0), kept)
  t.same(types(300), ['keyword', ''])
  // A line that is too long, or has too many colours, is not coloured.
  colours.set(['x'.repeat(3000), '"a"'.repeat(300), 'let a'])
  while (colours.done < 3) colours.next()
  t.same([types(0), types(1), types(2)], [[], [], ['keyword', '']])
  t.end()
})

void t.test('log pieces: a log that grows and loses its beginning keeps the pieces in between', (t) => {
  const step = fc.record({
    more: fc.string({ unit: fc.constantFrom('a', 'b', '\n'), maxLength: 40 }),
    lost: fc.nat(30),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
      const pieces = makePieces()
      let text = ''
      for (const { more, lost } of steps) {
        text = (text + more).slice(lost)
        if (
          pieces(text)
            .map((piece) => piece.text)
            .join('') !== text
        )
          throw new Error(text)
      }
    }),
  )
  const pieces = makePieces()
  const line = (n: number): string => `line ${n} of a log that is long enough\n`
  let text = Array.from({ length: 2000 }, (_, n) => line(n)).join('')
  const before = pieces(text)
  t.ok(before.length > 8 && before.every((piece) => piece.text.length <= 8000))
  text = text.slice(9000) + line(2000)
  const after = pieces(text)
  t.equal(after.map((piece) => piece.text).join(''), text)
  t.same(after.filter((piece) => !before.includes(piece)).length, 2, 'the first and the last piece')
  t.same(
    pieces('different').map((piece) => piece.text),
    ['different'],
  )
  t.end()
})
