// Code blocks of messages: those that the sender gives, otherwise the fenced blocks that CommonMark finds in the text.
// A simple walk over the reference implementation's tree gives the expected blocks.
import { Parser } from 'commonmark'
import fc from 'fast-check'
import t from 'tap'
import { fencedBlocks } from '../../src/protocol/blocks.ts'
import { isForm, messageForm, refused } from '../support/forms.ts'
import { admin, alice, makeMission, startDeck, type Json } from '../support/server.ts'

const { database, instance } = await startDeck(t)
const { request } = instance
const { id } = await makeMission(instance)
const chat = `/api/missions/${id}/chat/rafael`

type Block = { language: string | null; code: string }

void t.test('code blocks: a message has the fenced code blocks of its Markdown', (t) => {
  const cases: [name: string, markdown: string, blocks: Block[] | null][] = [
    ['plain text', 'hello', null],
    ['one', 'see:\n```ts\nlet a = 1\n```\nok?', [{ language: 'ts', code: 'let a = 1\n' }]],
    ['no language', '```\nx\n```', [{ language: null, code: 'x\n' }]],
    ['tildes', '~~~ python\nx\n~~~', [{ language: 'python', code: 'x\n' }]],
    ['first word of the info string', '```  c++ title="a b"  \nx\n```', [{ language: 'c++', code: 'x\n' }]],
    ['backticks in the info of tildes', '~~~ a`b c\nx\n~~~', [{ language: 'a`b', code: 'x\n' }]],
    ['backticks in the info of backticks', '``` a`b\nx', null],
    ['escapes and entities in the info', '``` f&ouml;\\*\nx\n```', [{ language: 'fö*', code: 'x\n' }]],
    ['unclosed', '```js\nx\n\ny', [{ language: 'js', code: 'x\n\ny\n' }]],
    ['unclosed and empty', 'a\n```', [{ language: null, code: '' }]],
    ['empty', '```js\n```', [{ language: 'js', code: '' }]],
    ['blank lines', '```\n\n  \n```', [{ language: null, code: '\n  \n' }]],
    ['longer fences hold shorter ones', '````\n```\nx\n```\n````', [{ language: null, code: '```\nx\n```\n' }]],
    ['tildes hold backticks', '~~~\n```\n~~~', [{ language: null, code: '```\n' }]],
    ['two backticks are no fence', '``\nx\n``', null],
    ['a code span is no block', 'a ```x``` b', null],
    ['an indented block has no fence', '    x\n\n        ```\n', null],
    ['an indented fence', '   ```\n     x\n  y\n   ```', [{ language: null, code: '  x\ny\n' }]],
    ['in a quote', '> ```sh\n> ls\nout', [{ language: 'sh', code: 'ls\n' }]],
    [
      'in a list in a quote',
      '> 1. a\n>    ```sh\n>    ls\n>      -l\n>    ```',
      [{ language: 'sh', code: 'ls\n  -l\n' }],
    ],
    [
      'several, in order',
      '```a\n1\n```\n- ~~~b\n  2\n  ~~~\n\n```\n3\n```',
      [
        { language: 'a', code: '1\n' },
        { language: 'b', code: '2\n' },
        { language: null, code: '3\n' },
      ],
    ],
    ['CRLF', '```ts\r\na\r\nb\r\n```\r\n', [{ language: 'ts', code: 'a\nb\n' }]],
    ['in HTML', '<pre>\n```\nx\n```\n</pre>', null],
    ['not Markdown inside', '```\n&amp; *a* \\* <b>\n```', [{ language: null, code: '&amp; *a* \\* <b>\n' }]],
    ['odd text', '```é😀 x\ne\u0301\u2028😀\t \n```', [{ language: 'é😀', code: 'e\u0301\u2028😀\t \n' }]],
  ]
  for (const [name, markdown, blocks] of cases) t.strictSame(fencedBlocks(markdown), blocks, name)
  t.end()
})

/** The blocks that the reference implementation finds. */
const reference = (markdown: string): Block[] | null => {
  const blocks: Block[] = []
  const walker = new Parser().parse(markdown).walker()
  for (let step = walker.next(); step; step = walker.next()) {
    const { type, info, literal } = step.node
    if (step.entering && type === 'code_block' && info !== null)
      blocks.push({ language: info.trim().split(/\s+/)[0] || null, code: literal ?? '' })
  }
  return blocks.length > 0 ? blocks : null
}
const piece = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom('```', '~~~', '````', '~~~~', '``', '`', '~') },
  { weight: 3, arbitrary: fc.constantFrom('\n', '\r\n', '\r', '\n\n', ' ', '  ', '    ', '\t') },
  {
    weight: 3,
    arbitrary: fc.constantFrom(
      '> ',
      '>',
      '- ',
      '* ',
      '1. ',
      '12) ',
      '# ',
      '---\n',
      '<div>\n',
      '<!-- ',
      '-->',
      '[a]: b\n',
      '[a](',
    ),
  },
  {
    weight: 3,
    arbitrary: fc.constantFrom(
      'ts',
      'a b',
      'é',
      '😀',
      '&amp;',
      '&nbsp;',
      '\\',
      '\\`',
      '*x*',
      '\u00a0',
      '\u2028',
      '\f',
      '\uFEFF',
      '=',
    ),
  },
  {
    weight: 1,
    arbitrary: fc.string({ unit: 'binary', maxLength: 5 }).filter((s) => !s.includes('\0') && s.isWellFormed()),
  },
)

void t.test('code blocks: equal those of the reference implementation for random text', (t) => {
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
      const markdown = pieces.join('')
      const [is, want] = [fencedBlocks(markdown), reference(markdown)]
      if (JSON.stringify(is) !== JSON.stringify(want))
        throw new Error(`${JSON.stringify(is)} is not ${JSON.stringify(want)}`)
    }),
    { numRuns: 3000 },
  )
  t.end()
})

const fenced = 'a\n```ts\nx\n```'
const found = [{ language: 'ts', code: 'x\n' }]
/** Posts a message and reads it again. Returns its blocks, which are equal in both answers. */
const blocksOf = async (message: string, more: Json = {}): Promise<unknown> => {
  const { status, json, text } = await request('POST', chat, alice, { message, ...more })
  if (status !== 201) throw new Error(text)
  const read = (await request('GET', `${chat}?limit=1`, alice)).json['messages'] as Json[]
  t.strictSame(read, [json], 'the history has the same message')
  t.ok('code_blocks' in json)
  return json['code_blocks']
}

void t.test('code blocks: come from the Markdown unless the sender gives them', async (t) => {
  t.equal(await blocksOf('plain'), null)
  t.strictSame(await blocksOf(fenced), found)
  t.strictSame(await blocksOf(fenced, { code_blocks: null }), found, 'null equals absent')
  t.strictSame(await blocksOf(fenced, { code_blocks: [] }), [], 'an empty list stays empty')
  const given = [
    { language: 'c', code: 'e\u0301 😀\r\n\uFEFF ' },
    { language: null, code: '' },
    { language: '', code: '\ta' },
  ]
  t.strictSame(await blocksOf(fenced, { code_blocks: given }), given, 'as given')
  const loose = [{ code: 'x', other: 1 }]
  t.strictSame(
    await blocksOf('plain', { code_blocks: loose }),
    [{ language: null, code: 'x' }],
    'with language null and no other member',
  )
})

void t.test('code blocks: hold up to 256 KiB of UTF-8 in all', async (t) => {
  const limit = 256 * 1024
  const fill = (bytes: number): Block[] => [
    { language: 'é'.repeat(50), code: '😀'.repeat(1000) },
    { language: null, code: 'x'.repeat(bytes - 4100) },
  ]
  t.strictSame(await blocksOf('x', { code_blocks: fill(limit) }), fill(limit))
  const over = await request('POST', chat, alice, { message: 'x', code_blocks: fill(limit + 1) })
  refused(t, over, 400, 'bad_request', 'one byte more')
  const many = Array.from({ length: 20_000 }, () => ({ language: null, code: '' }))
  t.strictSame(await blocksOf('x', { code_blocks: many }), many)
  const tooMany = await request('POST', chat, alice, { message: 'x', code_blocks: Array(32_769).fill({ code: '' }) })
  refused(t, tooMany, 400, 'bad_request', 'empty blocks count as well')
})

void t.test('code blocks: a value that is no list of blocks is refused', async (t) => {
  const wrong: unknown[] = ['x', 1, true, {}, { code: 'x' }, ['x'], [null], [[]], [{}], [{ language: 'x' }]]
  const parts: unknown[] = [{ code: 1 }, { code: null }, { code: 'x', language: 1 }, { code: 'x', language: [] }]
  for (const code_blocks of [...wrong, ...parts.map((part) => [{ code: 'fine' }, part])]) {
    const answer = await request('POST', chat, alice, { message: 'x', code_blocks })
    refused(t, answer, 400, 'bad_request', JSON.stringify(code_blocks))
  }
})

void t.test('code blocks: a message written by SQL has those of its row, or those of its Markdown', async (t) => {
  const sql = await makeMission(instance)
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message, code_blocks)
     values ($1, 'rafael', 'user', $2, null), ($1, 'rafael', 'user', 'plain', null), ($1, 'rafael', 'user', $2, '[]'),
       ($1, 'rafael', 'user', $2, '[{"code": "y"}, {"language": "sql", "code": "", "more": 1}]')`,
    [sql.id, fenced],
  )
  const { json } = await request('GET', `/api/missions/${sql.id}/chat/rafael`, admin)
  const own = [
    { language: null, code: 'y' },
    { language: 'sql', code: '' },
  ]
  for (const [n, [message, code_blocks]] of [
    [fenced, found],
    ['plain', null],
    [fenced, []],
    [fenced, own],
  ].entries())
    isForm(
      t,
      (json['messages'] as Json[])[n],
      messageForm({ mission_id: sql.id, author: null, message, code_blocks, seq: n + 1 }),
      `row ${n}`,
    )
})
