// The history as a stream of lines: the same messages as its pages', all of them up to the head at the start.
// What breaks in mid-stream, and what a reader costs who is slow, is in faults/replay.test.ts; speed is bench/history.ts's.
import t from 'tap'
import { refused } from '../support/forms.ts'
import { admin, alice, bob, rafael, startDeck, token, type Json } from '../support/server.ts'
import { begin, fill, lines, long, longChat, newChat, range, seqs } from '../support/stream-readers.ts'

const { database, instance } = await startDeck(t)
const { request } = instance
const stream = (path: string, bearer?: string) => request('GET', path, bearer, undefined, lines)

/** All messages by pages, as the lines that they are to be. */
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

void t.test('a chat is streamed whole, each message on a line, in the very form that its pages have', async (t) => {
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
    t.ok(text === expected, 'to the letter')
    const { json } = await request('GET', chat, alice)
    t.strictSame([headers.get('deck-last-seq'), headers.get('deck-epoch')], ['1450', json['epoch']], 'where it ends')
    t.ok(headers.get('x-content-type-options'), 'with the headers of any answer')
  }
  const head = await request('HEAD', chat, alice, undefined, lines)
  t.strictSame([head.status, head.text, head.headers.get('deck-last-seq')], [200, '', '1450'], 'HEAD streams nothing')
  const none = await stream(chat.replace('rafael', 'emma'), alice)
  t.strictSame([none.status, none.text, none.headers.get('deck-last-seq')], [200, '', '0'], 'where nothing was said')
})

void t.test('after and before bound it, a limit is refused', async (t) => {
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

void t.test('the form is the one that a client prefers, and JSON without a preference', async (t) => {
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

void t.test('who may not see a chat is refused before anything is streamed', async (t) => {
  const { id, chat } = await newChat(instance)
  await fill(database, id, 2)
  refused(t, await stream(chat), 401, 'unauthorized', 'no token')
  refused(t, await stream(chat, await token({ sub: 'alice', role: 'user' }, -60)), 401, 'unauthorized', 'an old token')
  refused(t, await stream(chat, bob), 404, 'not_found', "another user's mission")
  const narrow = await token({ sub: 'rafael', role: 'citizen', missions: [1] })
  refused(t, await stream(chat, narrow), 404, 'not_found', 'a citizen without it')
  refused(t, await stream(`/api/missions/${crypto.randomUUID()}/chat/rafael`, admin), 404, 'not_found', 'no mission')
  refused(t, await stream(`/api/missions/${id}/chat/Rafael`, admin), 400, 'bad_request', 'no name')
  for (const bearer of [admin, rafael]) t.strictSame(seqs((await stream(chat, bearer)).text), [1, 2])
})

void t.test('it goes up to the head at its start, whatever is written meanwhile', async (t) => {
  const { id, chat } = await longChat(instance, database)
  const reader = await begin(instance, chat)
  await fill(database, id, 300)
  const { text, whole } = await reader.rest()
  t.ok(whole)
  t.strictSame(seqs(text), range(1, long))
  t.equal(reader.response.headers['deck-last-seq'], String(long))
})

void t.test('replay: skips messages that are deleted before it reads them, even a cleared chat', async (t) => {
  const { id, chat } = await longChat(instance, database)
  const holed = await begin(instance, chat)
  await database.query('delete from chat_messages where mission_id = $1 and (seq % 7 = 0 or seq > $2)', [id, long - 9])
  const { text, whole } = await holed.rest()
  t.ok(whole)
  const kept = range(1, long - 9).filter((seq) => seq % 7 > 0)
  t.strictSame(seqs(text).slice(-100), kept.slice(-100), 'the rest is there')
  const cleared = await begin(instance, chat)
  t.equal((await request('DELETE', chat, admin)).status, 204)
  const left = await cleared.rest()
  t.ok(left.whole, 'nothing that is there is missing')
  t.ok(seqs(left.text).length < kept.length)
})
