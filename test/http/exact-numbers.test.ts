// The free JSON of test runs, from the API and SQL. Numbers beyond a double keep every digit when they are stored, sent and found.
// Numbers that Postgres can't store are refused.
import t, { type Test } from 'tap'
import { exported } from '../support/transfer.ts'
import { refused } from '../support/forms.ts'
import { admin, alice, makeMission, rafael, startDeck, until } from '../support/server.ts'
import { membersOf, quoteNumbers } from '../../src/protocol/text.ts'

const { database, instance } = await startDeck(t)
const { request } = instance
const json = { 'content-type': 'application/json' }

/** The number as sent, and its digits in Postgres. */
const numbers: [sent: string, stored: string][] = [
  ['1234567890123456789', '1234567890123456789'],
  ['-9007199254740993', '-9007199254740993'],
  ['123456789012345678901234567890.123456789', '123456789012345678901234567890.123456789'],
  ['0.1000000000000000055511151231257827', '0.1000000000000000055511151231257827'],
  ['1e-400', `0.${'0'.repeat(399)}1`],
  ['1E+400', `1${'0'.repeat(400)}`],
  ['1.10', '1.10'],
  ['1e2', '100'],
]
const listOf = (side: 0 | 1, separator: string): string => `[${numbers.map((pair) => pair[side]).join(separator)}]`
const bodyOf = (more = ''): string =>
  `{ "results" : ${listOf(0, ',')}, "su\\u006dmary":{"a\\"],}": "{1e5 \\\\", "n":${listOf(0, ' , ')}}${more}}`
const stored = listOf(1, ', ')

const setUp = async () => {
  const mission = await makeMission(instance)
  const tests = `/api/missions/${mission.id}/tests`
  return { mission, tests, topic: `missions/${mission.id}/tests` }
}
/** Asserts that a text has the numbers twice, in summary and in results. */
const holds = (t: Test, text: string, where: string): void => {
  t.equal(text.split(stored).length - 1, 2, `${where} has each digit of summary and results`, { text })
}

void t.test('exact numbers: a run keeps every digit in a POST, a PATCH and every read', async (t) => {
  const { mission, tests, topic } = await setUp()
  const client = await instance.connect(alice)
  const frames: string[] = []
  client.socket.on('message', (data: Buffer) => frames.push(data.toString('utf8')))
  await client.ask({ type: 'subscribe', topic })

  const posted = await request('POST', tests, rafael, bodyOf(',"logs":"x","status":"failed"'), json)
  t.equal(posted.status, 201, posted.text)
  holds(t, posted.text, 'the answer to POST')
  const asked = (await request('POST', `${tests}/run`, alice)).json['id']
  const patched = await request('PATCH', `${tests}/${asked}`, rafael, bodyOf(), json)
  t.equal(patched.status, 200, patched.text)
  holds(t, patched.text, 'the answer to PATCH')
  const rows = await database.query(
    `select summary::text || results::text as text from test_runs where mission_id = $1`,
    [mission.id],
  )
  t.equal(rows.length, 2)
  for (const { text } of rows) holds(t, String(text), 'the row in SQL')

  for (const path of [`/${posted.json['id']}`, '/latest', `/latest?at=${new Date(Date.now() + 60_000).toISOString()}`])
    holds(t, (await request('GET', tests + path, alice)).text, `GET ${path}`)
  t.equal((await request('GET', tests, alice)).text.split(stored).length - 1, 4, 'the list')
  const at = encodeURIComponent(new Date().toISOString())
  t.equal((await request('GET', `${tests}?at=${at}`, alice)).text.split(stored).length - 1, 4, 'the list as of a time')
  await until(() => client.events(topic).length === 3, 'the events')
  t.equal(frames.join('').split(stored).length - 1, 4, 'the events')
  const later = await instance.connect(alice)
  const replayed: string[] = []
  later.socket.on('message', (data: Buffer) => replayed.push(data.toString('utf8')))
  await later.ask({ type: 'subscribe', topic, after: 0 })
  await until(() => later.events(topic).length === 3, 'the events again')
  t.equal(replayed.join('').split(stored).length - 1, 4, 'the events, replayed')
  t.match(
    (await request('GET', `/api/missions/${mission.id}/timeline`, alice)).text.split(stored).length,
    5,
    'timeline',
  )
  t.ok((await exported(database.url, mission.id)).toString().includes(stored), 'the export')

  const kept = await request('PATCH', `${tests}/${asked}`, rafael, { status: 'passed' })
  holds(t, kept.text, 'a PATCH of the status alone')
  const nulled = await request('PATCH', `${tests}/${asked}`, rafael, '{"summary":{"a":1}, "summary" : null }', json)
  t.strictSame(
    [nulled.status, nulled.json['summary']],
    [200, null],
    'null clears a field, and the last of repeated members counts',
  )
})

void t.test('exact numbers: a search finds and returns every digit of a summary', async (t) => {
  const { mission, tests } = await setUp()
  await request('POST', tests, rafael, '{"summary":{"build":1234567890123456789,"rate":1.50}}', json)
  const found = await request('GET', `/api/missions/${mission.id}/search?q=1234567890123456789`, alice)
  t.equal((found.json['hits'] as unknown[]).length, 1)
  t.match(found.text, '1234567890123456789')
  t.notMatch(found.text, '1234567890123456800')
})

void t.test('exact numbers: a number that Postgres can not store is refused and changes nothing', async (t) => {
  const { tests } = await setUp()
  const run = `${tests}/${(await request('POST', tests, rafael, {})).json['id']}`
  const before = (await request('GET', tests, alice)).text
  const beyond = [
    '1e200000',
    '-1e131072',
    '1e-20000',
    '1e-99999999',
    '1e999999999999999999999',
    `1${'0'.repeat(131_072)}`,
  ]
  for (const number of [...beyond, `0.${'0'.repeat(16_383)}1`])
    for (const [method, path] of [
      ['POST', tests],
      ['PATCH', run],
    ] as const)
      for (const body of [`{"summary":{"n":${number}}}`, `{"results":[${number}]}`]) {
        const answer = await request(method, path, rafael, body, json)
        refused(t, answer, 400, 'bad_request', `${method} ${body.slice(0, 40)}`)
        t.match(answer.json['detail'], /^a number is out of range/)
      }
  // 2 MiB of such numbers would be 26 GB of text in Postgres.
  const bomb = `{"results":[${'1e131071,'.repeat(200_000)}1]}`
  refused(t, await request('POST', tests, rafael, bomb, json), 400, 'bad_request', 'many zeros')
  refused(t, await request('POST', tests, rafael, '{"results":[1e131071,1e131071,1e131071,1e131071,1e131071,1e131071,1e131071,1e131071]}', json), 400, 'bad_request', 'over 1 MiB of digits') // prettier-ignore
  for (const path of ['/api/missions', `/api/missions/${tests.split('/')[3]}/chat/rafael`])
    refused(
      t,
      await request('POST', path, admin, '{"message":"x","sender":1e400,"budget":1e400}', json),
      400,
      'bad_request',
    )
  const elsewhere = '{"summary":{"n":1e400},"other":[1e400]}'
  refused(t, await request('POST', tests, rafael, elsewhere, json), 400, 'bad_request', 'another member')
  t.equal((await request('GET', tests, alice)).text, before)
})

void t.test('exact numbers: membersOf and quoteNumbers agree with JSON.parse', (t) => {
  for (const body of [
    '{}',
    ' { } ',
    '{"a":1}',
    '\n{"a" : [ {"b":"}"} , [] ] ,\t"c":"\\\\","d":"\\"","": {"e":{"a":2}},"true":true,"x":null,"n":-1.5E+3}\n',
    '{"a":1,"a":{"a":3}}',
    '{"\\u0061\\"":"\\\\\\\\\\"","e":"1e999999999"}',
  ]) {
    const members = Object.fromEntries([...membersOf(body)].map(([name, text]) => [name, JSON.parse(text) as unknown]))
    t.strictSame(members, JSON.parse(body), body)
    const numbersOf = (text: string): unknown =>
      JSON.parse(text, (_key, value: unknown) => (typeof value === 'number' ? String(value) : value))
    t.strictSame(JSON.parse(quoteNumbers(body.replace('-1.5E+3', '-1500'))), numbersOf(body), body)
  }
  t.end()
})

void t.test('exact numbers: the answer to a frame has every digit of its id', async (t) => {
  const { mission, topic } = await setUp()
  const client = await instance.connect(alice)
  const texts: string[] = []
  client.socket.on('message', (data: Buffer) => texts.push(data.toString('utf8')))
  const chat = `missions/${mission.id}/chat/rafael`
  const ids = ['1234567890123456789', '-9007199254740993', '123456789012345678901234567890', '1e300', '0.5', '-0', '7']
  const answered: Record<string, string> = { '1e300': '1e+300', '-0': '0' }
  const frames = [
    `"type":"ping"`,
    `"type":"subscribe","topic":"${topic}"`,
    `"type":"send","topic":"${chat}","message":"x"`,
    `"type":"send","topic":"${chat}","message":""`,
    `"type":"subscribe","topic":"missions/x"`,
    `"type":"ping","x":"\\u0000"`,
  ]
  for (const id of ids) {
    texts.length = 0
    for (const frame of frames) client.socket.send(`{${frame},"id":${id}}`)
    const own = `"id":${answered[id] ?? id}`
    const answers = () => texts.filter((text) => /^.{0,20}"(ok|error)"/.test(text))
    await until(() => answers().length === frames.length, `the answers to ${id}`)
    for (const text of answers())
      t.ok(text.includes(`${own},`) || text.includes(`${own}}`), `${id}: ${text.slice(0, 80)}`)
    t.equal(answers().filter((text) => text.includes('"ok"')).length, 3)
  }
})
