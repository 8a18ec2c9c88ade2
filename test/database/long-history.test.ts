// A long history costs no more to read than a short one: EXPLAIN counts the blocks that each statement reads. The sessions
// have the server's settings, whose plans do not depend on statistics.
import t from 'tap'
import { openDatabase } from '../../src/database/postgres/pools.ts'
import { channelList } from '../../src/database/read/chat-history.sql.ts'
import { timelinePage } from '../../src/database/read/timeline.sql.ts'
import { makeMission, startDeck } from '../support/server.ts'

const { instance, database } = await startDeck(t)

void t.test('long history: a timeline page and the list of chats read as few blocks as a short one', async (t) => {
  const opened = openDatabase({ url: database.url, directUrl: database.url, poolMax: 6 }, () => {})
  t.teardown(opened.close)
  const client = await opened.main.connect()
  t.teardown(() => client.release())
  const blocks = async (text: string): Promise<number> => {
    const { rows } = await client.query<{ 'QUERY PLAN': string }>(`explain (analyze, buffers, format json) ${text}`)
    const [{ Plan: plan }] = JSON.parse(rows[0]?.['QUERY PLAN'] ?? '') as [{ Plan: Record<string, number> }]
    return (plan['Shared Hit Blocks'] ?? 0) + (plan['Shared Read Blocks'] ?? 0)
  }
  const makePast = async (count: number): Promise<{ id: string; at: string }> => {
    const { id } = await makeMission(instance)
    // Four chats and four runs. The messages are inserted in one statement and then get times one millisecond apart.
    await database.query(
      `insert into chat_messages (mission_id, citizen, sender, message) select $1, 'c' || n % 4, 'user', n::text from generate_series(1, $2::integer) n`,
      [id, count],
    )
    const writer = await database.connect()
    const { rows } = await writer.query<{ id: string }>(
      `insert into test_runs (mission_id, status) select $1, 'running' from generate_series(1, 4) returning id`,
      [id],
    )
    for (let n = 0; n < count / 100; n++)
      await writer.query(`update test_runs set summary = jsonb_build_object('n', $2::integer) where id = $1`, [
        rows[n % 4]?.id,
        n,
      ])
    await writer.query(`begin; set local deck.numbering = '0'`)
    await writer.query(
      `update chat_messages set at = timestamp '2026-01-01' + seq * interval '1 ms' where mission_id = $1`,
      [id],
    )
    await writer.query('commit')
    return { id, at: new Date(Date.UTC(2026, 0, 1) + count / 8).toISOString() }
  }
  const costs: Record<string, number[]> = {}
  for (const [n, count] of [4000, 30_000].entries()) {
    const { id, at } = await makePast(count)
    for (const newestFirst of [false, true]) {
      const name = `timeline_${n}_${newestFirst}`
      const [start, end] = newestFirst ? [at, '2000-01-01'] : [at, '2100-01-01']
      await client.query(
        `prepare ${name} (uuid, integer, timestamp, text, bigint, timestamp, text, bigint, boolean, integer, bigint) as ${timelinePage[newestFirst ? 'desc' : 'asc']}`,
      )
      const cost = await blocks(
        `execute ${name} ('${id}', null, '${start}', null, 0, '${end}', null, 0, true, 50, 1000000)`,
      )
      ;(costs[`timeline, newest first: ${newestFirst}`] ??= []).push(cost)
    }
    await client.query(`prepare channels_${n} (uuid, integer, text, timestamp, text, integer) as ${channelList}`)
    // Up to 1,000 unread messages of each chat are counted.
    ;(costs['chats'] ??= []).push(await blocks(`execute channels_${n} ('${id}', null, 'alice', null, null, 500)`))
  }
  for (const [what, [short = 0, long = 0]] of Object.entries(costs))
    t.ok(short > 50 && long < short * 2, `${what}: ${short} and ${long} blocks`)
})
