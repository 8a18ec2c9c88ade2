// The first of two simultaneous answers wins, 1,000 times (ROUNDS), on two server processes: two people answer each request at once, one by
// each server, while a socket on each follows the topic. Exactly one answer is stored, the other is a conflict, and both sockets and both
// servers show the same. Run:
//   npx tap --timeout=900 --reporter=tap test/long/answers.ts
import { isDeepStrictEqual } from 'node:util'
import t from 'tap'
import { Line } from '../support/users.ts'
import { freshDatabase } from '../support/database.ts'
import { alice, door, makeMission, rafael, token, until, type Json } from '../support/server.ts'
import { spawnServer } from '../support/processes.ts'

t.setTimeout(900_000)
const rounds = Number(process.env['ROUNDS'] ?? 1000)

await t.test(`requests: the first of two simultaneous answers on two servers wins, ${rounds} times`, async (t) => {
  const database = await freshDatabase(t)
  const env = { DATABASE_URL: database.url, LOG_LEVEL: 'error' }
  const servers = [await spawnServer(t, env), await spawnServer(t, env)]
  const doors = servers.map(({ url }) => door(t, url))
  const [first, second] = doors as [(typeof doors)[0], (typeof doors)[0]]
  const bob = await token({ sub: 'bob', role: 'user', missions: '*' })
  const { id } = await makeMission(first)
  const topic = `missions/${id}/requests`
  /** What each socket saw, by request: the row of each event. */
  const seen = await Promise.all(
    servers.map(async ({ url }) => {
      const rows = new Map<string, Json[]>()
      const line = await Line.open(url, alice)
      line.onFrame = ({ type, ...frame }) => {
        if (type !== 'event') return
        const data = frame['data'] as Json
        const name = String(data['id'])
        rows.set(name, [...(rows.get(name) ?? []), data])
      }
      t.equal((await line.ask({ type: 'subscribe', topic, after: 0 })).type, 'ok')
      t.teardown(() => line.drop())
      return rows
    }),
  )
  const wins = [0, 0]
  const times: number[] = []
  for (let round = 0; round < rounds; round++) {
    const made = await first.request('POST', `/api/${topic}`, rafael, { kind: 'text', title: `Round ${round}` })
    const name = String(made.json['id'])
    const begin = performance.now()
    const answers = await Promise.all(
      doors.map(({ request }, n) =>
        request('POST', `/api/${topic}/${name}/answer`, n ? bob : alice, { answer: `by ${n ? 'bob' : 'alice'}` }),
      ),
    )
    times.push(performance.now() - begin)
    const winner = answers.findIndex(({ status }) => status === 200)
    const [won, lost] = [answers[winner], answers[1 - winner]]
    const who = winner ? 'bob' : 'alice'
    if (lost?.status !== 409 || lost.json['code'] !== 'conflict') t.fail(`${winner} ${lost?.text}`)
    if (won?.json['answered_by'] !== who || won.json['answer'] !== `by ${who}`) t.fail(`${won?.text}`)
    wins[winner] = (wins[winner] ?? 0) + 1
    for (const { request } of [first, second]) {
      const read = (await request('GET', `/api/${topic}/${name}`, alice)).text
      if (read !== won?.text) t.fail(`read: ${read}, answered: ${won?.text}`)
    }
    await until(() => seen.every((rows) => rows.get(name)?.length === 2), 'both events on both sockets')
    for (const rows of seen)
      if (!isDeepStrictEqual(rows.get(name)?.[1], won?.json)) t.fail(`seen: ${JSON.stringify(rows.get(name))}`)
  }
  const [row] = await database.query(
    `select count(*)::integer as events, count(*) filter (where event = 'request.answered')::integer as answered
     from deck.events where topic = $1`,
    [topic],
  )
  t.strictSame(row, { events: 2 * rounds, answered: rounds }, 'two events a request, one of them its answer')
  for (const rows of seen)
    t.ok(
      [...rows.values()].every((events) => events.length === 2),
      'no event came twice',
    )
  times.sort((a, b) => a - b)
  t.comment(
    `won by each server: ${wins.join(', ')}; both answers back after ${times[rounds >> 1]?.toFixed(1)} ms (median), ${times[Math.floor(rounds * 0.95)]?.toFixed(1)} ms (95 %)`,
  )
})
