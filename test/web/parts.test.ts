// Parts of the Deck page, without a browser: pages and their heights, Markdown, the forms of test runs; and how the page is served.
import { readdirSync, readFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import t from 'tap'
import type { Message } from '../../src/client/index.ts'
import { blocksOf, decode, fence, parse, safeHref } from '../../src/web/markdown.ts'
import { describeAll } from '../../src/web/describe-event.ts'
import { isBefore, justAfter } from '../../src/web/timestamps.ts'
import { format, parse as parseRoute } from '../../src/web/address.ts'
import { figuresOf, resultsOf, sumsOf } from '../../src/web/results.ts'
import { makePages, pageSize } from '../../src/web/state/pages.ts'
import { fencedBlocks } from '../../src/protocol/blocks.ts'
import { buildPage } from './browser.ts'
import { startDeck } from '../support/server.ts'

buildPage()
const { instance } = await startDeck(t)
const message = (seq: number): Message => ({ seq, message: `${seq}` }) as Message
const range = (from: number, to: number): Message[] =>
  Array.from({ length: to - from }, (_, n) => message(from + n + 1))

void t.test("pages: a page's position follows from the measured or estimated heights before it", (t) => {
  const pages = makePages(10)
  pages.clear(0, 1010)
  t.same([pages.first(), pages.last(), pages.total()], [0, 40, 10_100])
  t.equal(pages.top(3), 750)
  t.ok(pages.measure(1, 400))
  t.notOk(pages.measure(1, 400), 'only once')
  t.equal(pages.top(3), 900)
  t.same([-5, 0, 249, 250, 649, 650, 1e9].map(pages.at), [0, 0, 0, 1, 1, 2, 40])
  pages.moveFloor(60)
  t.same([pages.first(), pages.start(2), pages.total()], [2, 60, 9500])
  t.end()
})

void t.test('pages: hold each stored and added message once, and request again what may be missing', (t) => {
  const put = fc.record({ from: fc.nat(8), pages: fc.integer({ min: 1, max: 4 }), stood: fc.nat(40) })
  fc.assert(
    fc.property(
      fc.nat(180),
      fc.array(fc.oneof(fc.constant('add' as const), put), { maxLength: 60 }),
      (begin, steps) => {
        const pages = makePages()
        pages.clear(0, begin)
        for (const step of steps) {
          if (step === 'add') pages.add(message(pages.head + 1))
          else {
            // An answer that is some messages old.
            const stood = Math.max(0, pages.head - step.stood)
            const after = pages.start(step.from)
            const to = pages.end(Math.min(step.from + step.pages - 1, pages.last()))
            if (after < to) pages.put(after, to, range(after, Math.min(to, stood)), stood)
          }
          for (let n = pages.first(); n <= pages.last(); n++) {
            const { messages, known } = pages.get(n)
            const seqs = messages.map(({ seq }) => seq)
            const expected = range(pages.start(n), pages.end(n)).map(({ seq }) => seq)
            if (known && seqs.join() !== expected.join()) throw new Error(`page ${n} of ${pages.head}: ${seqs.join()}`)
          }
        }
        pages.trim(0)
        return pages.held() <= 60
      },
    ),
    { numRuns: 500 },
  )
  t.equal(pageSize, 25)
  t.end()
})

void t.test('pages: a page without messages is complete, also when its first message arrives', (t) => {
  for (const [floor, next] of [
    [0, 1],
    [25, 26],
    [30, 31],
  ] as const) {
    const pages = makePages()
    pages.clear(floor, floor)
    t.same(pages.get(pages.last()), { messages: [], known: true }, `cleared at ${floor}`)
    pages.add(message(next))
    t.same(pages.get(pages.last()), { messages: [message(next)], known: true }, `the first after ${floor}`)
  }
  const pages = makePages()
  pages.clear(0, 60)
  t.equal(pages.get(1).known, false, 'a page that has messages is requested')
  pages.moveFloor(60)
  t.equal(pages.get(pages.last()).known, true, 'all messages are gone')
  t.end()
})

void t.test('markdown: the page shows the code blocks that the server extracts', (t) => {
  for (const text of [
    'a\n```js\nlet a\n```\nb\n~~~ py x\n1\n~~~',
    '> ```\n> q\n> ```\n\n- ```ts\n  x\n  ```',
    '````md\n```\ninner\n```\n````',
    'no block `at` all',
  ])
    t.same(blocksOf(parse(text)), fencedBlocks(text) ?? [], text)
  fc.assert(
    fc.property(fc.string(), (code) => {
      const clean = code.replace(/[\r\0]/g, '').replace(/\n+$/, '') || 'x'
      return blocksOf(parse(fence(clean, 'js')))[0]?.code.trimEnd() === clean.trimEnd()
    }),
  )
  t.end()
})

void t.test('markdown: links lead only to http, https or mailto', (t) => {
  t.equal(safeHref('https://example.org/a?b=c&amp;d'), 'https://example.org/a?b=c&d')
  t.equal(safeHref('mailto:a@example.org'), 'mailto:a@example.org')
  for (const href of [
    'javascript:x',
    ' JaVascript:x',
    'java\tscript:x',
    '&#106;avascript:x',
    'data:text/html,x',
    '/a',
    '//b',
    '#c',
    '',
  ])
    t.equal(safeHref(href), undefined, href)
  t.equal(decode('&lt;b&gt; &amp;amp; &#65;&#x1F600; &nosuch; &#0; &#xD800;'), '<b> &amp; A😀 &nosuch; \ufffd \ufffd')
  t.end()
})

void t.test('test results: the forms of different runners are understood', (t) => {
  t.same(sumsOf({ passed: 8, failed: 2, duration: 5.2 }), [{ name: 'tests', passed: 8, total: 10 }])
  t.same(figuresOf({ passed: 8, failed: 2, duration: 5.2, p95_ms: 12 }), [
    ['duration', '5.2'],
    ['p95', '12 ms'],
  ])
  t.same(sumsOf({ functional_passed: 8, functional_total: 10, performance_passed: 2, performance_total: 3 }), [
    { name: 'functional', passed: 8, total: 10 },
    { name: 'performance', passed: 2, total: 3 },
  ])
  t.same([sumsOf(null), figuresOf(null), sumsOf({ other: [] })], [[], [], []])
  const results = [
    { name: 'a', status: 'passed', duration_ms: 3 },
    { test: 'b', status: 'failed', error: 'why' },
    { title: 'c', ok: false, expected: 1, actual: 2 },
    { status: 'skipped' },
    'words',
    null,
  ]
  t.match(resultsOf({ results } as never), [
    { name: 'b', ok: false, error: 'why' },
    { name: 'c', ok: false, error: 'expected 1\nactual   2' },
    { name: 'a', ok: true, figures: ['duration 3 ms'] },
    { name: 'test 4', ok: true },
    { name: 'words', ok: true },
    { ok: true },
  ])
  t.end()
})

void t.test('timestamps: are compared and advanced by the microsecond', (t) => {
  t.ok(isBefore('2025-11-06T12:00:00.104881Z', '2025-11-06T12:00:00.104882Z'))
  t.ok(isBefore('2025-11-06T12:00:00Z', '2025-11-06T12:00:00.000001Z'))
  t.ok(isBefore('2025-11-06T12:00:00.09Z', '2025-11-06T12:00:00.1Z'), 'with any number of digits')
  t.notOk(isBefore('2025-11-06T12:00:00.1Z', '2025-11-06T12:00:00.100000Z'))
  t.equal(justAfter('2025-11-06T12:00:00.1Z'), '2025-11-06T12:00:00.100001Z')
  t.equal(justAfter('2025-12-31T23:59:59.999999Z'), '2026-01-01T00:00:00.000Z')
  fc.assert(
    fc.property(fc.date({ min: new Date(0), noInvalidDate: true }), fc.nat(999_999), (date, micros) => {
      const at = `${date.toISOString().slice(0, 19)}.${String(micros).padStart(6, '0')}Z`
      return isBefore(at, justAfter(at)) && !isBefore(justAfter(at), at)
    }),
  )
  t.end()
})

void t.test('address: names a place, and in the timeline a time', (t) => {
  const at = '2025-11-06T12:00:00.104882Z'
  for (const place of [
    {},
    { mission: '47' },
    { mission: '47', citizen: 'rafael' },
    { mission: '47', citizen: 'a/b é', view: 'tests' },
    { mission: '47', citizen: 'rafael', view: 'timeline', at },
  ])
    t.match(parseRoute(format(place)), place)
  t.equal(format({ mission: '47', citizen: 'rafael', view: 'timeline', at }), `/deck/missions/47/rafael/timeline/${at}`)
  t.equal(parseRoute(`/deck/missions/47/rafael/tests/${at}`).at, undefined, 'only the timeline has a time')
  t.equal(parseRoute('/deck/missions/47/rafael/timeline/yesterday').at, undefined)
  t.end()
})

void t.test('timeline: an event names its author and the change since the previous event', (t) => {
  const event = (event: string, data: object) =>
    ({ event, seq: 1, topic: 't', at: '2025-11-06T12:00:00Z', data }) as never
  const item = { id: 'i', text: 'It\nanswers', completed: false }
  const evidence = (status: string) => ({ test_name: 'x', evidence: { status } })
  const override = { reason: 'because', by: 'root', at: '2025-11-06T12:00:00Z' }
  const run = { id: 'r', status: 'running', summary: null }
  const mission = { id: 'm', status: 'active', title: 'One' }
  const described = describeAll([
    event('message.created', {
      sender: 'user',
      author: null,
      citizen: 'rafael',
      message: 'See:\n```js\nlet a\n```\nor `b`',
    }),
    event('message.created', { sender: 'citizen', citizen: 'rafael', message: '~~~\nnever ended' }),
    event('dod_item.created', item),
    event('dod_item.updated', { ...item, ...evidence('missing') }),
    event('dod_item.updated', { ...item, ...evidence('failed') }),
    event('dod_item.updated', { ...item, ...evidence('failed'), completed: true, override }),
    event('dod_item.updated', { ...item, ...evidence('failed') }),
    event('dod_item.updated', { ...item, ...evidence('failed'), text: 'Other' }),
    event('dod_item.deleted', item),
    event('test_run.created', run),
    event('test_run.updated', {
      ...run,
      status: 'failed',
      summary: { passed: 8, failed: 2, unit_passed: 1, unit_total: 1 },
    }),
    event('mission.updated', { ...mission, status: 'qa' }),
    event('mission.updated', { ...mission, title: 'Two' }),
    event('chat.cleared', { citizen: 'emma', by: 'root' }),
  ])
  t.same(
    described.map(({ who, what, tone = '' }) => [who, what, tone].filter(Boolean).join(' | ')),
    [
      'User → Rafael | See: ‹code› or `b`',
      'Rafael | ‹code›',
      'Checklist | new: It answers',
      'Checklist | evidence of “It answers”: missing',
      'Checklist | evidence of “It answers”: missing → failed | bad',
      'root | ticked without evidence: It answers (because)',
      'Checklist | open: It answers',
      'Checklist | changed: Other',
      'Checklist | removed: It answers',
      'Tests | a run started',
      'Tests | a run failed, 8/10, 1/1 unit | bad',
      'Mission | is In QA',
      'Mission | is now Active, is now called “Two”',
      'root | cleared the chat with Emma | bad',
    ],
  )
  t.end()
})

void t.test('page: is served with a strict policy, immutable assets and a bounded size', async (t) => {
  const page = await instance.request('GET', '/')
  t.equal(page.headers.get('cache-control'), 'no-cache')
  const policy = page.headers.get('content-security-policy') ?? ''
  t.match(policy, `connect-src 'self' ws://${new URL(instance.url).host} wss://`)
  t.notMatch(policy, /unsafe|\*|https?:/)
  t.notMatch(page.text, /<script(?![^>]*src=)|<style|style=| on\w+=/, 'nothing inline')
  for (const path of ['/deck', '/deck/', '/deck/missions/47/rafael/tests'])
    t.equal((await instance.request('GET', path)).text, page.text, path)
  const etag = page.headers.get('etag') ?? ''
  t.equal((await instance.request('GET', '/', undefined, undefined, { 'if-none-match': etag })).status, 304)

  const folder = new URL('../../dist/web/', import.meta.url)
  const names = readdirSync(new URL('assets/', folder)).filter((name) => !name.endsWith('.map'))
  let bytes = gzipSync(readFileSync(new URL('index.html', folder)), { level: 9 }).length
  for (const name of names) {
    const { status, headers, text } = await instance.request('GET', `/assets/${name}`)
    t.equal(status, 200, name)
    t.match(headers.get('cache-control'), /immutable/)
    t.match(headers.get('content-type'), /^(text\/(javascript|css)|image\/svg)/)
    t.equal(text, readFileSync(new URL(`assets/${name}`, folder), 'utf8'))
    bytes += gzipSync(text, { level: 9 }).length
  }
  t.ok(bytes < 100 * 1024, `${bytes} bytes in all`)
  // Assets that the document does not name are loaded when they are needed.
  const atOnce = [...page.text.matchAll(/assets\/([\w.-]+)/g)].map(([, name = '']) => name)
  const first = atOnce.map((name) => gzipSync(readFileSync(new URL(`assets/${name}`, folder)), { level: 9 }).length)
  const sum = first.reduce((all, one) => all + one, 0)
  t.ok(sum < 80 * 1024, `${sum} bytes at once`)
  t.comment(`${(bytes / 1024).toFixed(1)} KiB (gzip) in all, ${(sum / 1024).toFixed(1)} at once`)
  for (const name of [
    'none.js',
    '..%2findex.html',
    '.js',
    'index.html',
    '%2e%2e%2f%2e%2e%2fpackage.json',
    'constructor',
  ])
    t.match((await instance.request('GET', `/assets/${name}`)).json, { code: 'not_found' }, name)
})
