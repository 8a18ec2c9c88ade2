// The client's HTTP streams: lines in chunks of any size, and event streams that are cut.
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { makeHttp } from '../../src/client/http.ts'
import { parseEvents, readEvents, readLines, type ServerEvent } from '../../src/client/http-streams.ts'
import { startWire } from '../support/socket-proxy.ts'
import { alice, makeMission, startDeck, token, until } from '../support/server.ts'

/** Requests as a deck makes them, with the given tokens in order. */
const makeRequests = (url: string, ...tokens: string[]) => {
  const ending = new AbortController()
  let current = tokens.shift() ?? alice
  const link = {
    bearer: (again = false) => Promise.resolve(again ? (current = tokens.shift() ?? current) : current),
    ended: ending.signal,
  }
  return Object.assign(makeHttp(url, link as never, fetch), { end: () => ending.abort() })
}

/** A server that answers with the given function. */
const serve = async (t: Test, answer: (to: ServerResponse, last: unknown) => void): Promise<string> => {
  const server = createServer((request, to) => answer(to, request.headers['last-event-id']))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => new Promise((resolve) => server.close(resolve).closeAllConnections()))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const all = async <T>(from: AsyncIterable<T>): Promise<T[]> => {
  const found: T[] = []
  for await (const item of from) found.push(item)
  return found
}

void t.test('readLines: returns the same lines for any chunk size, and drops an unfinished last line', async (t) => {
  const text = 'a: ü\r\n\r\n😀 b\rc\u2028d\n\r\nend'
  const bytes = Buffer.from(text)
  const expected = ['a: ü', '', '😀 b', 'c\u2028d', '']
  for (let size = 1; size <= bytes.length; size++) {
    const pieces = { body: new Blob([bytes]).stream() }
    // Chunks of at most this size.
    const cut = new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, to) {
        for (let at = 0; at < chunk.length; at += size) to.enqueue(chunk.subarray(at, at + size))
      },
    })
    const http = {
      open: () => Promise.resolve({ body: pieces.body.pipeThrough(cut) }),
      ended: new AbortController().signal,
    }
    t.same(await all(readLines(http as never, '', { headers: {} })), expected, `pieces of ${size}`)
  }
})

void t.test('parseEvents: accepts several lines of data, comments, retry times and unknown fields', async (t) => {
  const lines = [
    ':hi', 'id: 1', 'event: x', 'data: a', 'data:b', 'data', '', 'id: 2', '', 'data: {"a": 1}', '', 'retry: 7', 'retry: x',
    'other: y', 'event: dropped', '', 'data:  c', 'id: 3\0', '', 'data: no end',
  ] // prettier-ignore
  const waits: number[] = []
  const found = await all(parseEvents(lines as never, (ms) => waits.push(ms)))
  t.same(found, [
    { id: '1', event: 'x', data: 'a\nb\n' },
    { id: '2', event: 'message', data: '{"a": 1}' },
    { id: '2', event: 'message', data: ' c' },
  ])
  t.same(waits, [7])
})

void t.test('readEvents: resumes after a cut, up to the last event', async (t) => {
  const asked: unknown[] = []
  const url = await serve(t, (to, last) => {
    asked.push(last)
    const from = Number(last ?? 0)
    to.writeHead(200, { 'content-type': 'text/event-stream' })
    const end = from >= 4 ? 'event: end\ndata: {}\n\n' : 'id: 99\ndata: no'
    to.write(`id: ${from + 1}\ndata: ${from + 1}\n\nid: ${from + 2}\ndata: ${from + 2}\n\n${end}`, () => {
      if (from === 2) to.socket?.resetAndDestroy()
      else to.end()
    })
  })
  const found = await all(readEvents(makeRequests(url), 'x', { last: 'end' }))
  t.same(
    found.map(({ data }) => data),
    ['1', '2', '3', '4', '5', '6'],
  )
  t.same(asked, [undefined, '2', '4'])
})

void t.test('HTTP streams: a refusal and a cut of lines are thrown; an abort ends the loop', async (t) => {
  const { instance } = await startDeck(t)
  const { id } = await makeMission(instance)
  const path = `missions/${id}/chat/rafael`
  const missing = readEvents(makeRequests(instance.url), `missions/${crypto.randomUUID()}/chat/rafael`, {})
  await t.rejects(all(missing), { code: 'not_found' })
  const refused = readEvents(makeRequests(instance.url, 'no.no.no'), path, {})
  await t.rejects(all(refused), { code: 'unauthorized' })

  const cut = await serve(t, (to) => {
    to.writeHead(200)
    to.write('one\ntwo', () => to.socket?.resetAndDestroy())
  })
  const lines: string[] = []
  const failure = await (async () => {
    for await (const line of readLines(makeRequests(cut), 'x', { headers: {} })) lines.push(line)
  })().catch((error: unknown) => error)
  t.same(lines, ['one'])
  t.match(failure, { name: 'DeckError', code: 'unavailable' })

  const stop = new AbortController()
  const requests = makeRequests(instance.url)
  const waiting = [all(readEvents(requests, path, { signal: stop.signal })), all(readEvents(requests, path, {}))]
  stop.abort()
  t.same(await waiting[0], [])
  requests.end()
  t.same(await waiting[1], [])
})

void t.test('readEvents: follows a chat across a cut connection and an expired token', async (t) => {
  const { instance } = await startDeck(t)
  const wire = await startWire(t, instance.url)
  const { id } = await makeMission(instance)
  const path = `missions/${id}/chat/rafael`
  const requests = makeRequests(wire.url, await token({ sub: 'alice', role: 'user' }, 2), alice)
  const found: ServerEvent[] = []
  let answers = 0
  const following = (async () => {
    for await (const event of readEvents(requests, path, { query: { after: 0 }, opened: () => answers++ }))
      found.push(event)
  })()
  const say = (message: string) => instance.request('POST', `/api/${path}`, alice, { message })
  await say('1')
  await until(() => found.length === 1, 'the first event')
  wire.cut()
  await say('2')
  await until(() => found.length === 2, 'the second event')
  await until(() => answers >= 3, 'the expiry of the token')
  await say('3')
  await until(() => found.length === 3, 'the third event')
  t.same(
    found.map(({ id, data }) => [id, (JSON.parse(data) as { message: string }).message]),
    [
      ['1', '1'],
      ['2', '2'],
      ['3', '3'],
    ],
  )
  requests.end()
  await following
})
