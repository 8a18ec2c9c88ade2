// A random walk: users, programs and faults act on two server processes and one chat, in any order and concurrently.
// Steps: sends, retries, subscriptions, resumes, disconnects, kills, restarts, cuts, SQL inserts and clearings.
// The oracle: all observers agree on the row at each seq. An acknowledged message is at its seq unless a later clearing removed it.
// Each reader receives every seq after its cursor without a gap; only a clearing skips the older ones.
// fast-check prints the seed of a failure. SEED=… repeats the same steps.
import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import type { Test } from 'tap'
import { freshDatabase } from '../support/database.ts'
import { admin, alice, door, makeMission, until, type Json } from '../support/server.ts'
import { spawnServer } from '../support/processes.ts'
import { Line, type Frame } from '../support/users.ts'

const step = fc.record({
  wait: fc.boolean(),
  act: fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant('send'),
        at: fc.nat(1),
        n: fc.integer({ min: 1, max: 20 }),
        key: fc.boolean(),
      }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('resend'), at: fc.nat(1), n: fc.nat(1000) }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('insert'), n: fc.integer({ min: 1, max: 150 }) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('rollback'), n: fc.integer({ min: 1, max: 20 }) }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('join'), at: fc.nat(1), n: fc.option(fc.nat(200)) }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('drop'), n: fc.nat(20) }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('resume'), at: fc.nat(1), n: fc.nat(20) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('again'), n: fc.nat(20) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('cut'), n: fc.nat(1) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('kill'), at: fc.nat(1) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('restart'), at: fc.nat(1) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('clear'), at: fc.nat(1) }) },
  ),
})
type Act = { do: string; at?: number; n?: number | null; key?: boolean }
type Acknowledged = { seq: number; id: string; key: string | undefined }

/** A reader holds a cursor, and may lose its connection at any time. */
type Reader = { line: Line | undefined; cursor: number; on: number }

export const walk = async (t: Test, options: { runs: number; steps: number; seed: number }): Promise<void> => {
  const database = await freshDatabase(t)
  const start = () => spawnServer(t, { DATABASE_URL: database.url, LOG_LEVEL: 'error' })
  const servers = [await start(), await start()]
  const server = (at = 0) => servers[at] as (typeof servers)[number]
  const deck = (at = 0) => door(t, server(at).url)

  const scenario = async (steps: { wait: boolean; act: Act }[]): Promise<void> => {
    const { id, number } = await makeMission(deck())
    const topic = `missions/${id}/chat/rafael`
    const truth = new Map<number, string>()
    const acknowledged: Acknowledged[] = []
    const readers: Reader[] = []
    const problems: string[] = []
    const record = (seq: number, what: string): void => {
      const other = truth.get(seq)
      if (other !== undefined && other !== what) problems.push(`seq ${seq} is both ${other} and ${what}`)
      truth.set(seq, what)
    }

    // Users and readers --------------------------------------------------------------------------------------------

    const open = async (at = 0): Promise<Line> => {
      for (;;) {
        try {
          return await Line.open(server(at).url, alice)
        } catch {
          // the server is being started
          await until(() => server(at).process.exitCode === null, 'a server', 30_000)
        }
      }
    }
    const lines: (Line | undefined)[] = []
    /** Sends until it is answered. Without a key, sends once. */
    const sendOne = async (at: number, key: string | undefined): Promise<Frame | undefined> => {
      for (;;) {
        let line = lines[at]
        if (!line || line.closed) line = lines[at] = await open(at)
        const frame = {
          type: 'send',
          topic: `missions/${number}/chat/rafael`,
          message: 'said',
          ...(key ? { key } : {}),
        }
        const answer = await line.ask(frame).catch(() => undefined)
        if (answer?.type === 'ok' || !key) return answer
        if (answer && answer['code'] === 'conflict') return answer
        if (answer && answer['code'] !== 'unavailable') problems.push(JSON.stringify(answer))
      }
    }
    const note = (answer: Frame | undefined, key: string | undefined): void => {
      if (answer?.type !== 'ok') return
      const { id } = answer['message'] as { id: string }
      const seq = Number(answer['seq'])
      record(seq, id)
      acknowledged.push({ seq, id, key })
    }
    const leave = (reader: Reader): void => {
      reader.line?.drop()
      reader.line = undefined
    }
    /** Subscribes after the cursor (undefined: live only), on the reader's connection or a new one. */
    const take = async (reader: Reader, after: number | undefined): Promise<void> => {
      for (;;) {
        const line = reader.line && !reader.line.closed ? reader.line : await open(reader.on)
        reader.line = line
        let live = false
        line.onFrame = (frame) => {
          if (frame.type === 'ok' && frame['topic'] === topic) {
            // Earlier events belong to the previous subscription, and are sent again.
            live = true
            if (after === undefined) reader.cursor = Number(frame['seq'])
            else reader.cursor = after
          }
          if (frame.type !== 'event' || !live) return
          const [seq, event] = [Number(frame['seq']), frame['event']]
          if (seq !== reader.cursor + 1 && !(event === 'chat.cleared' && seq > reader.cursor))
            problems.push(`a reader at ${reader.cursor} received ${seq}`)
          record(seq, event === 'chat.cleared' ? 'cleared' : String((frame['data'] as Json)['id']))
          reader.cursor = seq
        }
        const answer = await line
          .ask({ type: 'subscribe', topic, ...(after === undefined ? {} : { after }) })
          .catch(() => undefined)
        if (answer?.type === 'ok') return
        if (answer && answer['code'] !== 'unavailable') throw new Error(JSON.stringify(answer))
        if (!answer) reader.line = undefined
      }
    }
    const head = async (): Promise<number> => {
      const [row] = await database.query(
        `select greatest(
           (select max(seq) from chat_messages where mission_id = $1),
           (select max(seq) from deck.events where topic = $2), 0)::integer as n`,
        [id, topic],
      )
      return Number(row?.['n'])
    }

    // Steps -------------------------------------------------------------------------------------------------------

    const restart = async (at: number, signal: NodeJS.Signals): Promise<void> => {
      const { process, exited } = server(at)
      process.kill(signal)
      await exited()
      servers[at] = await start()
    }
    const restarting: Promise<void>[] = [Promise.resolve(), Promise.resolve()]
    const sql = `insert into chat_messages (mission_id, sender, message) select $1, 'user', 'sql' from generate_series(1, $2::int)`
    const verbs: Record<string, (act: { at: number; n: number; key: boolean; given: Act }) => Promise<unknown>> = {
      send: ({ at, n, key }) =>
        Promise.all(
          Array.from({ length: n }, async () => {
            const own = key ? randomUUID() : undefined
            note(await sendOne(at, own), own)
          }),
        ),
      async resend({ at, n }) {
        const keyed = acknowledged.filter(({ key }) => key !== undefined)
        const first = keyed[n % (keyed.length || 1)]
        if (!first) return
        const answer = await sendOne(at, first.key)
        const cleared = [...truth].some(([seq, what]) => what === 'cleared' && seq > first.seq)
        if (answer?.type === 'ok') {
          if (answer['seq'] !== first.seq) problems.push(`${first.seq} was sent again and got ${String(answer['seq'])}`)
        } else if (!cleared) {
          // Possibly no reader has received the clearing yet, so the table decides.
          const rows = await database.query('select from chat_messages where id = $1', [first.id])
          if (rows.length > 0) problems.push(`${first.seq} sent again: ${JSON.stringify(answer)}`)
        }
      },
      insert: ({ n }) => database.query(sql, [id, n]),
      async rollback({ n }) {
        const client = await database.connect()
        await client.query('begin')
        await client.query(sql, [id, n])
        await client.query(n % 2 ? 'set constraints all immediate' : 'select 1')
        await client.query('rollback')
        await client.end()
      },
      async join({ at, given }) {
        const after = given.n == null ? undefined : Math.max(0, (await head()) - given.n)
        const reader: Reader = { line: undefined, cursor: 0, on: at }
        await take(reader, after)
        readers.push(reader)
      },
      cut: ({ n }) =>
        database.query(
          `select pg_terminate_backend(pid) from pg_stat_activity
           where datname = current_database() and application_name = $1`,
          [n ? 'mission-deck session' : 'mission-deck server'],
        ),
      // Restarts of a server run one after the other.
      kill: ({ at }) => (restarting[at] = (restarting[at] as Promise<void>).then(() => restart(at, 'SIGKILL'))),
      restart: ({ at }) => (restarting[at] = (restarting[at] as Promise<void>).then(() => restart(at, 'SIGTERM'))),
      clear: ({ at }) =>
        deck(at)
          .request('DELETE', `/api/${topic}`, admin)
          .catch(() => undefined),
    }
    const work: Promise<unknown>[] = []
    for (const { act: given, wait } of steps) {
      const act = { at: given.at ?? 0, n: given.n ?? 0, key: given.key ?? false, given }
      if (given.do === 'drop' || given.do === 'resume' || given.do === 'again') {
        const reader = readers[act.n % (readers.length || 1)]
        if (!reader) continue
        if (given.do !== 'again') leave(reader)
        if (given.do === 'drop') continue
        if (given.do === 'resume') reader.on = act.at
        await take(reader, reader.cursor)
        continue
      }
      const doing = verbs[given.do]?.(act)
      work.push(doing ?? Promise.resolve())
      if (wait) await doing
    }
    await Promise.all(work)

    // The oracle --------------------------------------------------------------------------------------------------

    for (const on of [0, 1]) readers.push({ line: undefined, cursor: 0, on })
    const end = await head()
    for (const reader of readers) {
      if (!reader.line || reader.line.closed) await take(reader, reader.cursor)
      await until(() => reader.cursor >= end, `a reader at ${reader.cursor} to reach ${end}`, 20_000)
      leave(reader)
    }
    for (const line of lines) line?.drop()
    const rows = await database.query('select seq::int, id from chat_messages where mission_id = $1 order by seq', [id])
    for (const { seq, id } of rows) record(Number(seq), String(id))
    const cleared = Math.max(0, ...[...truth].flatMap(([seq, what]) => (what === 'cleared' ? [seq] : [])))
    const there = rows.map(({ seq }) => Number(seq))
    const want = Array.from({ length: end - cleared }, (_, i) => cleared + i + 1)
    if (JSON.stringify(there) !== JSON.stringify(want))
      problems.push(`rows after the clearing at ${cleared}: ${there.join(' ')}`)
    const ids = new Set(rows.map(({ id }) => id))
    for (const { seq, id } of acknowledged)
      if (ids.has(id) !== seq > cleared) problems.push(`${seq} was acknowledged; cleared up to ${cleared}`)
    if (new Set(acknowledged.map(({ id }) => id)).size !== acknowledged.length)
      problems.push('a message was acknowledged twice')
    if (problems.length > 0) throw new Error(problems.slice(0, 10).join('\n'))
  }

  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: options.steps >> 1, maxLength: options.steps }), scenario),
    { numRuns: options.runs, seed: options.seed, endOnFailure: true },
  )
  for (const { process, exited, output } of servers) {
    process.kill('SIGTERM')
    t.equal(await exited(), 0)
    t.notMatch(output(), /internal error|nhandled/, 'the server logged no unexpected error')
  }
}
