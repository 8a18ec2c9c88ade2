// The cost of a timeline in missions of 3,000 and of 300,000 messages: pages of 50 at the start, in the middle and at the end, the whole
// stream, and a poll at the horizon. Also the cost of the horizon's lock for a writer.
//   npx tap --reporter=tap --timeout=600 bench/timeline.ts
import t from 'tap'
import { alice, makeMission, startDeck, type Json } from '../test/support/server.ts'

const { instance, database } = await startDeck(t)
const print = (line: string): void => t.comment(line)
const ask = async (path: string): Promise<Json> => (await instance.request('GET', path, alice)).json
const median = (times: number[]): string => (times.sort((a, b) => a - b)[times.length >> 1] ?? 0).toFixed(1)

/** Creates a mission with `count` messages in `chats` chats in turn, one per millisecond. Returns its ID. */
const makePast = async (count: number, chats: number): Promise<string> => {
  const { id } = await makeMission(instance)
  const client = await database.connect()
  for (let from = 1; from <= count; from += 20_000)
    await client.query(
      `insert into chat_messages (mission_id, citizen, sender, message)
       select $1, 'c' || n % $2, 'user', repeat('word ', 40) || n from generate_series($3::integer, $4::integer) n`,
      [id, chats, from, Math.min(count, from + 19_999)],
    )
  await client.query(`begin; set local deck.numbering = '0'`)
  await client.query(
    `update chat_messages c set at = timestamp '2026-01-01' + (seq * $2 + substr(citizen, 2)::integer) * interval '1 ms' where mission_id = $1`,
    [id, chats],
  )
  await client.query('commit')
  return id
}

void t.test('figures', async (t) => {
  for (const [count, chats] of [
    [3_000, 3],
    [300_000, 3],
    [300_000, 100],
  ] as const) {
    const id = await makePast(count, chats)
    await database.query('vacuum analyze chat_messages')
    const timeline = `/api/missions/${id}/timeline`
    const times: string[] = []
    for (const place of [0, count / 2, count - 300]) {
      const from = new Date(Date.UTC(2026, 0, 1) + place).toISOString()
      const taken: number[] = []
      for (let n = 0; n < 21; n++) {
        const since = performance.now()
        const { events } = await ask(`${timeline}?from=${from}`)
        taken.push(performance.now() - since)
        if ((events as Json[]).length !== 50) t.fail('a page is not full')
      }
      times.push(median(taken))
    }
    const polls: number[] = []
    const end = (await ask(`${timeline}?from=2026-06-01T00:00:00Z`))['cursor']
    for (let n = 0; n < 21; n++) {
      const since = performance.now()
      await ask(`${timeline}?cursor=${String(end)}`)
      polls.push(performance.now() - since)
    }
    const since = performance.now()
    const response = await fetch(instance.url + timeline, {
      headers: { authorization: `Bearer ${alice}`, accept: 'application/x-ndjson' },
    })
    let lines = 0
    for await (const bytes of response.body as unknown as AsyncIterable<Uint8Array>)
      for (const byte of bytes) if (byte === 10) lines++
    const seconds = (performance.now() - since) / 1000
    t.equal(lines, count)
    print(
      `${count} messages in ${chats} chats: ms for a page of 50 at the beginning, in the middle, at the end ${times.join(', ')}; ` +
        `a poll at the end ${median(polls)}; all of it ${(count / seconds).toFixed(0)} events/s`,
    )
  }
})

void t.test('what it costs in Postgres', async () => {
  const client = await database.connect()
  const timed = async (text: string, rounds: number): Promise<number> => {
    const since = performance.now()
    await client.query(`do $$ begin for n in 1..${rounds} loop ${text}; end loop; end $$`)
    return ((performance.now() - since) * 1000) / rounds
  }
  const nothing = await timed('perform clock_timestamp()', 200_000)
  print(`deck.mark() again within a second: ${((await timed('perform deck.mark()', 200_000)) - nothing).toFixed(2)} µs`)
  // One transaction for each call, like a writer.
  const loop = async (text: string): Promise<number> => {
    const since = performance.now()
    await client.query(`do $$ begin for n in 1..50000 loop ${text}; commit; end loop; end $$`)
    return ((performance.now() - since) * 1000) / 50_000
  }
  const empty = await loop('perform clock_timestamp()')
  print(`deck.mark() in a transaction of its own: ${((await loop('perform deck.mark()')) - empty).toFixed(2)} µs`)
  print(`deck.horizon(): ${(await timed('perform deck.horizon()', 2000)).toFixed(0)} µs`)
})
