// Compression and ETags: answers are compressed if the client accepts it, decompress to the same bytes, and unchanged pages get 304.
// A compressed NDJSON stream can be read while it arrives, and a cut stream is still seen as cut.
import { once } from 'node:events'
import { request as ask, type IncomingMessage } from 'node:http'
import { brotliDecompressSync, createBrotliDecompress, createGunzip, gunzipSync } from 'node:zlib'
import t from 'tap'
import { admin, alice, startDeck, startInstance, until, type Door } from '../support/server.ts'
import { fill, lines, long, longChat, newChat, range, seqs } from '../support/stream-readers.ts'

const { database, instance } = await startDeck(t)

type Raw = { status: number; headers: IncomingMessage['headers']; bytes: Buffer }
const begin = async (door: Door, path: string, headers: Record<string, string>, method = 'GET') => {
  const sent = ask(door.url + path, { method, agent: false, headers: { authorization: `Bearer ${alice}`, ...headers } })
  sent.end()
  const [answer] = (await once(sent, 'response')) as [IncomingMessage]
  // `complete` shows a reset.
  for (const side of [sent, answer]) side.on('error', () => {})
  return answer
}
const get = async (path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Raw> => {
  const answer = await begin(instance, path, headers, method)
  const parts: Buffer[] = []
  for await (const part of answer) parts.push(part as Buffer)
  return { status: answer.statusCode ?? 0, headers: answer.headers, bytes: Buffer.concat(parts) }
}
const unpack = { br: brotliDecompressSync, gzip: gunzipSync }
const codings = ['br', 'gzip'] as const

void t.test('compression: pages, NDJSON, logs and documents have the same bytes after decompression', async (t) => {
  const { id, chat } = await newChat(instance)
  await fill(database, id, 300, `repeat('n ' || n || ' ', 20)`)
  const run = (await instance.request('POST', `/api/missions/${id}/tests`, admin, { logs: 'ok\n'.repeat(5000) })).json
  const cases: [path: string, headers: Record<string, string>][] = [
    [`${chat}?after=0&limit=100`, {}],
    [`${chat}?q=n`, {}],
    [chat, lines],
    [`/api/missions/${id}/tests/${run['id']}/logs`, {}],
    ['/openapi.json', {}],
    ['/asyncapi.json', {}],
  ]
  for (const [path, headers] of cases) {
    const plain = await get(path, headers)
    t.strictSame([plain.status, plain.headers['content-encoding']], [200, undefined], path)
    t.match(plain.headers.vary, /accept-encoding/i)
    for (const coding of codings) {
      const packed = await get(path, { ...headers, 'accept-encoding': coding })
      t.strictSame([packed.status, packed.headers['content-encoding']], [200, coding], `${path} ${coding}`)
      t.ok(unpack[coding](packed.bytes).equals(plain.bytes), 'the same')
      t.ok(packed.bytes.length < plain.bytes.length * 0.7)
      t.match(packed.headers.vary, /accept-encoding/i)
    }
  }
})

void t.test('compression: uses the coding that Accept-Encoding prefers', async (t) => {
  const { id, chat } = await newChat(instance)
  await fill(database, id, 50)
  const cases: [accept: string, coding: string | undefined][] = [
    ['gzip, deflate, br, zstd', 'br'],
    ['gzip;q=1.0, br;q=0.5', 'gzip'],
    ['GZIP', 'gzip'],
    ['br;q=0, *;q=0.1', 'gzip'],
    ['*', 'br'],
    ['br;q=x', undefined],
    ['identity', undefined],
    ['identity, gzip;q=0.5', undefined],
    ['gzip;q=0', undefined],
    ['deflate, x-thing', undefined],
    ['', undefined],
  ]
  for (const [accept, coding] of cases)
    t.equal((await get(chat, { 'accept-encoding': accept })).headers['content-encoding'], coding, accept)
})

void t.test('compression: small answers, errors, ranges and event streams are not compressed', async (t) => {
  const { id, chat } = await newChat(instance)
  await fill(database, id, 1)
  const all = { 'accept-encoding': 'gzip, br' }
  const run = (await instance.request('POST', `/api/missions/${id}/tests`, admin, { logs: 'ok\n'.repeat(5000) })).json
  for (const [what, path, headers, method] of [
    ['a short page', chat, all, 'GET'],
    ['an error', `${chat}?limit=0&${'x'.repeat(2000)}`, all, 'GET'],
    ['a range', `/api/missions/${id}/tests/${run['id']}/logs`, { ...all, range: 'bytes=0-9999' }, 'GET'],
    ['HEAD of a log', `/api/missions/${id}/tests/${run['id']}/logs`, all, 'HEAD'],
  ] as const)
    t.equal((await get(path, headers, method)).headers['content-encoding'], undefined, what)
  const events = await begin(instance, chat, { ...all, accept: 'text/event-stream' })
  t.equal(events.headers['content-encoding'], undefined, 'events')
  t.match(String(await once(events, 'data')), /^id: 1\n/)
  events.destroy()
})

void t.test('ETag: a page that can not grow gets 304 although its chat grows', async (t) => {
  const { id, chat } = await newChat(instance)
  await fill(database, id, 120)
  const closed = [
    '?before=101',
    '?before=101&limit=20',
    '?before=121',
    '?after=0&limit=50',
    '?after=10&before=20',
    '?after=0&before=100&limit=10',
  ]
  const open = ['', '?after=100', '?before=122', '?limit=10']
  const tags = new Map<string, string>()
  for (const query of [...closed, ...open]) {
    const { headers } = await get(chat + query)
    t.match(headers, { etag: /^W\/"[\w-]+"$/, 'cache-control': 'private, no-cache' }, query)
    tags.set(query, headers.etag ?? '')
  }
  const again = (query: string, more = {}) => get(chat + query, { 'if-none-match': tags.get(query) ?? '', ...more })
  for (const query of tags.keys()) {
    const { status, bytes, headers } = await again(query)
    t.strictSame([status, bytes.length, headers.etag], [304, 0, tags.get(query)], `${query}: unchanged`)
    t.equal((await again(query, { 'accept-encoding': 'br' })).status, 304, 'with any coding')
  }
  await fill(database, id, 1)
  for (const query of closed) t.equal((await again(query)).status, 304, `${query} is closed`)
  for (const query of open) t.equal((await again(query)).status, 200, `${query} may have grown`)
  t.equal(
    (await get(`${chat}?before=101`, { 'if-none-match': `"x", ${tags.get('?before=101')}` })).status,
    304,
    'one of several ETags',
  )
  t.equal((await get(`${chat}?before=101`, { 'if-none-match': '"x"' })).status, 200)
  const form = await instance.request('GET', `${chat}?before=101`, alice, undefined, { 'if-none-match': '*' })
  t.equal(form.status, 304, 'documented')
  const bob = await instance.request('GET', `${chat}?before=101`, undefined, undefined, { 'if-none-match': '*' })
  t.equal(bob.status, 401, 'only with access to the chat')

  await database.query('delete from chat_messages where mission_id = $1 and seq = 15', [id])
  for (const query of ['?after=0&limit=50', '?after=10&before=20'])
    t.equal((await again(query)).status, 200, `${query} has a gap`)
  t.equal((await again('?before=101&limit=20')).status, 304, 'another page has no gap')
  await instance.request('DELETE', chat, admin)
  for (const query of closed) t.equal((await again(query)).status, 200, `${query} was cleared`)
})

void t.test('compression: compressed lines can be read while they arrive', async (t) => {
  const { id, chat } = await longChat(instance, database)
  const lock = await database.connect()
  for (const coding of codings) {
    // The lock delays every page after the first.
    const answer = await begin(instance, chat, { ...lines, 'accept-encoding': coding })
    await lock.query('begin')
    await lock.query('lock table chat_messages in access exclusive mode')
    const unpacked = answer.pipe(coding === 'br' ? createBrotliDecompress() : createGunzip())
    unpacked.on('error', () => {})
    let text = ''
    unpacked.on('data', (data: Buffer) => (text += data.toString()))
    await until(() => text.endsWith('\n'), `whole lines, by ${coding}, while the other pages wait`)
    const { length } = seqs(text)
    t.ok(length > 0 && length < long, `${length} messages`)
    await lock.query('rollback')
    await once(unpacked, 'end')
    t.strictSame(seqs(text), range(1, long))
  }
  t.ok(id)
})

void t.test('compression: a compressed stream is cut by a failure and by a stalled reader', async (t) => {
  let cut = 0
  const hasty = await startInstance(t, database.url, { limits: { silence: 300 } }, (line) => {
    if (line.includes('a streamed response was aborted')) cut++
  })
  for (const [n, coding] of codings.entries()) {
    // Text that hardly compresses, more than the buffers between server and client take.
    const { id, chat } = await newChat(instance)
    await database.query(
      `insert into chat_messages (mission_id, citizen, sender, message)
       select $1, 'rafael', 'user', (select string_agg(md5(n || ' ' || i), '') from generate_series(1, 300) i) from generate_series(1, 2500) n`,
      [id],
    )
    const gone = await begin(instance, chat, { ...lines, 'accept-encoding': coding })
    await instance.request('DELETE', `/api/missions/${id}`, admin)
    const parts: Buffer[] = []
    try {
      for await (const part of gone) parts.push(part as Buffer)
    } catch {}
    t.notOk(gone.complete, `${coding}: a deleted mission`)
    const other = await longChat(instance, database)
    await database.query(
      `update chat_messages set message = (select string_agg(md5(seq || ' ' || i), '') from generate_series(1, 300) i) where mission_id = $1`,
      [other.id],
    )
    const stalled = await begin(hasty, other.chat, { ...lines, 'accept-encoding': coding })
    await until(() => cut > n, 'the cut')
    try {
      for await (const part of stalled) parts.push(part as Buffer)
    } catch {}
    t.notOk(stalled.complete, `${coding}: a reader that stalls`)
  }
})
