// The log of a test run: byte ranges, the last lines, and the chunks of a large log, written by the API or by SQL.
// test/long/logs.ts measures a log of 200 MB.
import { once } from 'node:events'
import { request as ask, type IncomingMessage } from 'node:http'
import t from 'tap'
import { refused } from '../support/forms.ts'
import { alice, makeMission, rafael, startDeck, until, type Json } from '../support/server.ts'

const { database, instance } = await startDeck(t)
const { request } = instance
const text = { 'content-type': 'text/plain' }

const newRun = async (logs?: string): Promise<{ run: string; mission: string; path: string; topic: string }> => {
  const mission = (await makeMission(instance)).id
  const { json } = await request('POST', `/api/missions/${mission}/tests`, rafael, logs === undefined ? {} : { logs })
  const topic = `missions/${mission}/tests/${json['id']}/logs`
  return { run: String(json['id']), mission, topic, path: `/api/${topic}` }
}
/** Returns the status, headers and undecoded bytes of an answer. */
const get = async (
  path: string,
  headers: Record<string, string> = {},
  method = 'GET',
): Promise<{ status: number; headers: IncomingMessage['headers']; bytes: Buffer }> => {
  const sent = ask(instance.url + path, {
    method,
    agent: false,
    headers: { authorization: `Bearer ${alice}`, ...headers },
  })
  sent.end()
  const [answer] = (await once(sent, 'response')) as [IncomingMessage]
  const parts: Buffer[] = []
  for await (const part of answer) parts.push(part as Buffer)
  return { status: answer.statusCode ?? 0, headers: answer.headers, bytes: Buffer.concat(parts) }
}
const chunksOf = async (topic: string): Promise<{ seq: number; event: string; chunk: string }[]> =>
  (await database.query(
    `select seq::integer, event, data ->> 'chunk' as chunk, data - 'chunk' as rest from deck.events where topic = $1 order by seq`,
    [topic],
  )) as never

void t.test('run log: any range equals those bytes of the whole log', async (t) => {
  const { path } = await newRun()
  const chunks = ['one\n', 'zwei € ', '\u001b[31mred\u001b[0m\r\n', '😀'.repeat(3), '\u0001x\n']
  for (const chunk of chunks) await request('POST', path, rafael, chunk, text)
  const whole = Buffer.from(chunks.join(''))
  const size = whole.length
  const all = await get(path)
  t.strictSame([all.status, all.bytes], [200, whole])
  t.match(all.headers, {
    'content-length': String(size),
    'accept-ranges': 'bytes',
    'cache-control': 'private, no-cache',
  })
  const head = await get(path, {}, 'HEAD')
  t.match(head.headers, { 'content-length': String(size), etag: all.headers.etag }, 'HEAD returns the size')

  for (let first = 0; first < size; first += 3)
    for (const last of [first, first + 5, size - 1, size, 1e14]) {
      const { status, headers, bytes } = await get(path, { range: `bytes=${first}-${last}` })
      const end = Math.min(last, size - 1)
      t.strictSame(
        [status, headers['content-range'], headers['content-length'], bytes],
        [206, `bytes ${first}-${end}/${size}`, String(end + 1 - first), whole.subarray(first, end + 1)],
        `${first}-${last}`,
      )
    }
  t.strictSame((await get(path, { range: 'bytes=7-' })).bytes, whole.subarray(7), 'to the end')
  t.strictSame((await get(path, { range: 'bytes=-5' })).bytes, whole.subarray(-5), 'the last bytes')
  t.strictSame((await get(path, { range: 'bytes=-500' })).bytes, whole, 'more bytes than the log has')
  for (const range of ['bytes=0-1,3-4', 'bytes=4-2', 'lines=1-2', 'bytes=-', 'bytes=x', ''])
    t.strictSame((await get(path, { range })).status, 200, `not a supported range: ${range}`)
  for (const range of [`bytes=${size}-`, 'bytes=-0', `bytes=${size + 1}-${size + 2}`]) {
    const answer = await request('GET', path, alice, undefined, { range })
    refused(t, answer, 416, 'bad_request', range)
    t.equal(answer.headers.get('content-range'), `bytes */${size}`)
  }
})

void t.test('run log: a cut download resumes while the log is unchanged', async (t) => {
  const { path, run } = await newRun('0123456789')
  const { etag = '' } = (await get(path)).headers
  const on = { range: 'bytes=5-', 'if-range': etag }
  t.equal((await get(path, on)).bytes.toString(), '56789')
  t.equal((await get(path, { 'if-none-match': etag })).status, 304)
  await request('POST', path, rafael, 'more', text)
  const grown = await get(path, on)
  t.strictSame([grown.status, grown.bytes.toString()], [200, '0123456789more'], 'the whole log, because it changed')
  t.equal((await get(path, { 'if-none-match': etag })).status, 200)
  await database.query(`update test_runs set logs = 'ABCDEFGHIJKLMN' where id = $1`, [run])
  t.not((await get(path)).headers.etag, grown.headers.etag, 'a changed log of the same length has a new ETag')
})

void t.test('run log: tail returns the last lines over any number of chunks', async (t) => {
  const { path, run } = await newRun()
  t.equal((await get(`${path}?tail=3`)).bytes.toString(), '', 'of an empty log')
  const lines = Array.from({ length: 3000 }, (_, n) => `${n} ${'é'.repeat(n % 300)}\r\n`)
  for (let n = 0; n < lines.length; n += 500)
    await request(
      'POST',
      path,
      rafael,
      lines
        .slice(n, n + 500)
        .join('')
        .slice(0, -1),
      text,
    ).then(() => request('POST', path, rafael, '\n', text))
  const tail = async (n: number): Promise<string> => (await get(`${path}?tail=${n}`)).bytes.toString()
  for (const n of [1, 2, 499, 500, 501, 2999, 3000, 3001, 100_000])
    t.ok((await tail(n)) === lines.slice(-n).join(''), `${n} lines`)
  await request('POST', path, rafael, 'no end', text)
  t.equal(await tail(1), 'no end', 'a line without a line break counts')
  t.equal(await tail(2), `${lines.at(-1)}no end`)
  t.equal(
    (await get(`${path}?tail=2`, { range: 'bytes=-3' })).bytes.toString(),
    'end',
    'a range applies to those lines',
  )
  for (const n of ['0', '-1', '1.5', '100001', 'x', ''])
    refused(t, await request('GET', `${path}?tail=${n}`, alice), 400, 'bad_request', `tail=${n}`)
  await database.query(`update test_runs set logs = E'\\n\\n' where id = $1`, [run])
  t.strictSame([await tail(1), await tail(2), await tail(3)], ['\n', '\n\n', '\n\n'], 'empty lines count')
})

void t.test(
  'run log: an SQL write makes events of at most 256 KiB, cut between characters, in one transaction',
  async (t) => {
    const most = 256 * 1024
    const { topic, path, run, mission } = await newRun('old')
    const client = await instance.connect(alice)
    t.match(await client.ask({ type: 'subscribe', topic }), { type: 'ok', seq: 1 })
    const whole = `x${'😀'.repeat(200_000)}`
    await database.query('update test_runs set logs = $2 where id = $1', [run, whole])
    const count = Math.ceil(Buffer.byteLength(whole) / (most - 3))
    await until(() => client.events(topic).length === count, 'the chunks')
    const events = client.events(topic)
    t.strictSame(
      events.map(({ event, seq }) => [event, seq]),
      events.map((_, n) => [n === 0 ? 'log.replaced' : 'log.appended', n + 2]),
    )
    t.ok(events.every(({ data }) => Buffer.byteLength(String(data['chunk'])) <= most))
    t.ok(
      events.every(({ data, seq }) => data['seq'] === seq && data['run_id'] === run && data['mission_id'] === mission),
    )
    t.ok(events.map(({ data }) => data['chunk']).join('') === whole, 'the chunks together are the log')
    t.equal(
      (
        await database.query('select count(distinct at)::integer as n from deck.events where topic = $1 and seq > 1', [
          topic,
        ])
      )[0]?.['n'],
      1,
    )
    t.ok((await get(path)).bytes.equals(Buffer.from(whole)), 'HTTP returns the same log')

    await database.query(`update test_runs set logs = logs || repeat('y', 600000) where id = $1`, [run])
    await until(() => client.events(topic).length === count + 3, 'the added chunks')
    t.ok(
      client
        .events(topic)
        .slice(-3)
        .every(({ event }) => event === 'log.appended'),
    )
    t.equal((await get(`${path}?tail=1`)).bytes.length, Buffer.byteLength(whole) + 600_000)

    const [row] = await database.query(
      `insert into test_runs (mission_id, status, logs) values ($1, 'running', repeat('z', 524289)) returning id`,
      [mission],
    )
    const inserted = await chunksOf(topic.replace(run, String(row?.['id'])))
    t.strictSame(
      inserted.map(({ event, chunk }) => [event, chunk.length]),
      [
        ['log.appended', most],
        ['log.appended', most],
        ['log.appended', 1],
      ],
    )
  },
)

void t.test('run log: an append of up to 2 MiB is one event, unless its frame would exceed 4 MiB', async (t) => {
  const { path, topic } = await newRun()
  const plain = 'x'.repeat(2 * 1024 * 1024)
  t.strictSame((await request('POST', path, rafael, plain, text)).json, { seq: 1 })
  const escapes = '\u001b'.repeat(1024 * 1024)
  t.strictSame((await request('POST', path, rafael, escapes, text)).json, { seq: 5 }, 'the seq of the last chunk')
  const client = await instance.connect(alice)
  await client.ask({ type: 'subscribe', topic, after: 0 })
  await until(() => client.events(topic).length === 5, 'all')
  t.ok(
    client
      .events(topic)
      .map(({ data }) => data['chunk'])
      .join('') ===
      plain + escapes,
  )
  t.ok(Math.max(...client.frames.map((frame) => JSON.stringify(frame).length)) < 4 * 1024 * 1024)
  refused(t, await request('POST', path, rafael, `${plain}x`, text), 413, 'too_large', 'more than 2 MiB at a time')
})

void t.test('run log: test_runs.logs follows it up to 16 MiB and stays unchanged beyond', async (t) => {
  const { path, run, mission } = await newRun()
  const part = (n: number): string => `${n}${'p'.repeat(2 * 1024 * 1024 - 10)}`
  const column = async (): Promise<number> =>
    Number((await database.query('select octet_length(logs) as n from test_runs where id = $1', [run]))[0]?.['n'])
  let whole = ''
  for (let n = 0; n < 9; n++) {
    whole += part(n)
    await request('POST', path, rafael, part(n), text)
  }
  const folded = await column()
  t.ok(folded >= 8 * 1024 * 1024 - 100 && folded < whole.length, `${folded} of ${whole.length} bytes`)
  await request('PATCH', `/api/missions/${mission}/tests/${run}`, rafael, { status: 'passed' })
  await database.query('select deck.tidy()')
  t.equal(await column(), folded, 'housekeeping leaves it unchanged as well')
  t.ok((await get(path)).bytes.equals(Buffer.from(whole)), 'HTTP returns the whole log')
  t.equal(
    (await database.query('select octet_length(deck.log_text($1, $2)) as n', [mission, run]))[0]?.['n'],
    whole.length,
  )
  await database.query(`update test_runs set logs = logs || 'by SQL' where id = $1`, [run])
  t.equal((await get(path, { range: 'bytes=-7' })).bytes.toString(), 'pby SQL', 'text that SQL adds is at the end')
})

void t.test('run log: an answer is cut when the run is deleted while it is read', async (t) => {
  const { path, run } = await newRun()
  const part = 'q'.repeat(2 * 1024 * 1024)
  for (let n = 0; n < 8; n++) await request('POST', path, rafael, part, text)
  const sent = ask(instance.url + path, { agent: false, headers: { authorization: `Bearer ${alice}` } })
  sent.end()
  const [answer] = (await once(sent, 'response')) as [IncomingMessage]
  await database.query('delete from test_runs where id = $1', [run])
  let bytes = 0
  try {
    for await (const data of answer) bytes += (data as Buffer).length
  } catch {}
  t.notOk(answer.complete, 'cut')
  t.ok(bytes < 8 * part.length)
  t.strictSame(await database.query('select from deck.log_sizes where run_id = $1', [run]), [], 'no row is left')
})

void t.test('run log: deck.size_log computes the sizes of an existing log and its replacements', async (t) => {
  const { topic, run, path } = await newRun('first ')
  await request('POST', path, rafael, 'second', text)
  await database.query(`update test_runs set logs = 'n€w ' where id = $1`, [run])
  await request('POST', path, rafael, 'third', text)
  const before = await database.query(
    'select first::integer, upto::integer, seq::integer from deck.log_sizes where run_id = $1 order by seq',
    [run],
  )
  t.strictSame(before, [
    { first: 1, upto: 6, seq: 1 },
    { first: 1, upto: 12, seq: 2 },
    { first: 3, upto: 6, seq: 3 },
    { first: 3, upto: 11, seq: 4 },
  ] as Json[])
  await database.query('delete from deck.log_sizes where run_id = $1', [run])
  await database.query('select deck.size_log($1)', [topic])
  t.strictSame(
    await database.query(
      'select first::integer, upto::integer, seq::integer from deck.log_sizes where run_id = $1 order by seq',
      [run],
    ),
    before,
  )
  t.equal((await get(path)).bytes.toString(), 'n€w third')
})
