// The history as NDJSON: the messages of its pages, up to the latest seq when the stream begins.
// faults/replay.test.ts covers failures in mid-stream and slow readers; bench/history.ts measures the speed.
import t from 'tap'
import { refused } from '../support/forms.ts'
import { admin, alice, bob, rafael, startDeck, token, type Json } from '../support/server.ts'
import { begin, fill, lines, long, longChat, newChat, range, seqs } from '../support/stream-readers.ts'

const { database, instance } = await startDeck(t)
const { request } = instance
const stream = (path: string, bearer?: string) => request('GET', path, bearer, undefined, lines)

/** Reads all pages. Returns the NDJSON that the stream must equal. */
const byPages = async (chat: string): Promise<string> => {
  const found: string[] = []
  for (let after = 0, more = true; more;) {
    const { json } = await request('GET', `${chat}?after=${after}&limit=500`, alice)
    for (const message of json['messages'] as Json[]) {
      found.push(`${JSON.stringify(message)}\n`)
      after = Number(message['seq'])
    }
    more = json['has_more'] === true
  }
  return found.join('')
}

void t.test('NDJSON: streams the whole chat, one message a line, each as in the pages', async (t) => {
  const { id, number, chat } = await newChat(instance)
  const odd = [
    `'e\u0301 \u00e9 \u212b'`,
    `E'a\\r\\nb\\rc\\n\\t"\\\\ \\u2028\\u0085\\u007f\\u0001'`,
    `'👩‍👩‍👧‍👦 🇩🇪 \u{10ffff}'`,
    `repeat('😀', 10000)`,
    `repeat(E'\\u0001', 10000)`,
    `E'see\\n\`\`\`sql\\nselect ' || n || E'\\n\`\`\`\\n~~~\\nx'`,
  ]
  await fill(
    database,
    id,
    1400,
    `case n % 90 ${odd.map((sql, i) => `when ${i} then ${sql}`).join(' ')} else 'n ' || n end`,
  )
  const blocks = `jsonb_build_array(jsonb_build_object('language', 'ts', 'code', repeat('"😀', n * 300)))`
  await fill(database, id, 50, `'n'`, blocks)
  const expected = await byPages(chat)
  for (const name of [id, id.toUpperCase(), number]) {
    const { status, headers, text } = await stream(`/api/missions/${name}/chat/rafael`, alice)
    t.equal(status, 200)
    t.match(headers.get('content-type'), /^application\/x-ndjson/)
    t.strictSame(seqs(text), range(1, 1450), `every message, as ${name}`)
    t.ok(text === expected, 'character for character')
    const { json } = await request('GET', chat, alice)
    t.strictSame(
      [headers.get('deck-last-seq'), headers.get('deck-epoch')],
      ['1450', json['epoch']],
      'the headers name the latest seq and the epoch',
    )
    t.ok(headers.get('x-content-type-options'), 'with the security headers')
  }
  const head = await request('HEAD', chat, alice, undefined, lines)
  t.strictSame([head.status, head.text, head.headers.get('deck-last-seq')], [200, '', '1450'], 'HEAD streams nothing')
  const none = await stream(chat.replace('rafael', 'emma'), alice)
  t.strictSame([none.status, none.text, none.headers.get('deck-last-seq')], [200, '', '0'], 'an empty chat')
})

void t.test('NDJSON: after and before bound the stream; limit is refused', async (t) => {
  const { id, chat } = await newChat(instance)
  await fill(database, id, 700)
  const cases: [query: string, from: number, to: number][] = [
    ['', 1, 700],
    ['?after=0', 1, 700],
    ['?after=699', 700, 700],
    ['?after=700', 1, 0],
    ['?after=9007199254740991', 1, 0],
    ['?before=700', 1, 699],
    ['?before=1', 1, 0],
    ['?before=0', 1, 0],
    ['?before=9007199254740991', 1, 700],
    ['?after=10&before=651', 11, 650],
    ['?after=20&before=10', 1, 0],
  ]
  for (const [query, from, to] of cases) {
    const { status, text } = await stream(chat + query, alice)
    t.strictSame([status, seqs(text)], [200, range(from, to)], query || 'all')
  }
  for (const query of ['?limit=10', '?limit=500&after=3', '?after=-1', '?before=x', '?after=9007199254740992'])
    refused(t, await stream(chat + query, alice), 400, 'bad_request', query)
})

void t.test('NDJSON: is sent when the Accept header prefers it; JSON is the default', async (t) => {
  const { id, chat } = await newChat(instance)
  await fill(database, id, 2)
  const x = 'application/x-ndjson'
  const cases: [accept: string, isLines: boolean][] = [
    ['*/*', false],
    ['application/json', false],
    [`application/json, ${x}`, false],
    [`${x};q=0.5, application/json`, false],
    [`${x};q=0`, false],
    [`${x};q=`, false],
    [`*/*, ${x};q=0.9`, false],
    ['text/html', false],
    ['', false],
    [x.toUpperCase(), true],
    [`text/html,${x} ; q=1.0 , application/json`, true],
    [`application/json;q=0.8, ${x};q=0.9, */*;q=0.1`, true],
    [`${x}, application/json`, true],
  ]
  for (const [accept, isLines] of cases) {
    const { status, text } = await request('GET', chat, alice, undefined, { accept })
    t.strictSame([status, text.startsWith('{"id"')], [200, isLines], accept)
  }
})

void t.test('NDJSON: a token without access to the chat is refused before anything is streamed', async (t) => {
  const { id, chat } = await newChat(instance)
  await fill(database, id, 2)
  refused(t, await stream(chat), 401, 'unauthorized', 'no token')
  refused(t, await stream(chat, await token({ sub: 'alice', role: 'user' }, -60)), 401, 'unauthorized', 'an old token')
  refused(t, await stream(chat, bob), 404, 'not_found', "another user's mission")
  const narrow = await token({ sub: 'rafael', role: 'citizen', missions: [1] })
  refused(t, await stream(chat, narrow), 404, 'not_found', 'a citizen without the mission')
  refused(t, await stream(`/api/missions/${crypto.randomUUID()}/chat/rafael`, admin), 404, 'not_found', 'no mission')
  refused(t, await stream(`/api/missions/${id}/chat/Rafael`, admin), 400, 'bad_request', 'no name')
  for (const bearer of [admin, rafael]) t.strictSame(seqs((await stream(chat, bearer)).text), [1, 2])
})

void t.test('NDJSON: ends at the latest seq of its start, even when messages are written meanwhile', async (t) => {
  const { id, chat } = await longChat(instance, database)
  const reader = await begin(instance, chat)
  await fill(database, id, 300)
  const { text, whole } = await reader.rest()
  t.ok(whole)
  t.strictSame(seqs(text), range(1, long))
  t.equal(reader.response.headers['deck-last-seq'], String(long))
})

void t.test('NDJSON: skips messages that are deleted before it reads them, even a cleared chat', async (t) => {
  const { id, chat } = await longChat(instance, database)
  const gapped = await begin(instance, chat)
  await database.query('delete from chat_messages where mission_id = $1 and (seq % 7 = 0 or seq > $2)', [id, long - 9])
  const { text, whole } = await gapped.rest()
  t.ok(whole)
  const kept = range(1, long - 9).filter((seq) => seq % 7 > 0)
  t.strictSame(seqs(text).slice(-100), kept.slice(-100), 'the other messages are sent')
  const cleared = await begin(instance, chat)
  t.equal((await request('DELETE', chat, admin)).status, 204)
  const left = await cleared.rest()
  t.ok(left.whole, 'the stream ends normally')
  t.ok(seqs(left.text).length < kept.length)
})
