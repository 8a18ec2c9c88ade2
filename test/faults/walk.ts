// A random walk over what people, programs and faults do to two server processes and one chat, in any order and at the same
// time: sends, sends again, subscriptions, resumes, drops, kills, restarts, cuts, SQL, clearings. The oracle: all agree on
// what stands at each seq; what was acknowledged stands there, unless a clearing came after it; each reader gets what follows
// its cursor without a hole, but that a clearing takes everything older along. fast-check prints the seed of a failure;
// SEED=… walks the same steps again.
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
type Said = { seq: number; id: string; key: string | undefined }

/** One reader: it holds a cursor, and may lose its line at any time. */
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
    const said: Said[] = []
    const readers: Reader[] = []
    const problems: string[] = []
    const stands = (seq: number, what: string): void => {
      const other = truth.get(seq)
      if (other !== undefined && other !== what) problems.push(`at ${seq} there are ${other} and ${what}`)
      truth.set(seq, what)
    }

    // People ------------------------------------------------------------------------------------------------------

    const open = async (at = 0): Promise<Line> => {
      for (;;) {
        try {
          return await Line.open(server(at).url, alice)
        } catch {
          // it is being started
          await until(() => server(at).process.exitCode === null, 'a server', 30_000)
        }
      }
    }
    const lines: (Line | undefined)[] = []
    /** Sends until it is answered; without a key once. */
    const say = async (at: number, key: string | undefined): Promise<Frame | undefined> => {
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
      stands(seq, id)
      said.push({ seq, id, key })
    }
    const leave = (reader: Reader): void => {
      reader.line?.drop()
      reader.line = undefined
    }
    /** Subscribes after its cursor (undefined: live only), on the line it has or on a new one. */
    const take = async (reader: Reader, after: number | undefined): Promise<void> => {
      for (;;) {
        const line = reader.line && !reader.line.closed ? reader.line : await open(reader.on)
        reader.line = line
        let live = false
        line.onFrame = (frame) => {
          if (frame.type === 'ok' && frame['topic'] === topic) {
            // What came before was still of the former subscription, and comes again.
            live = true
            if (after === undefined) reader.cursor = Number(frame['seq'])
            else reader.cursor = after
          }
          if (frame.type !== 'event' || !live) return
          const [seq, event] = [Number(frame['seq']), frame['event']]
          if (seq !== reader.cursor + 1 && !(event === 'chat.cleared' && seq > reader.cursor))
            problems.push(`a reader at ${reader.cursor} got ${seq}`)
          stands(seq, event === 'chat.cleared' ? 'cleared' : String((frame['data'] as Json)['id']))
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
            note(await say(at, own), own)
          }),
        ),
      async resend({ at, n }) {
        const keyed = said.filter(({ key }) => key !== undefined)
        const first = keyed[n % (keyed.length || 1)]
        if (!first) return
        const answer = await say(at, first.key)
        const cleared = [...truth].some(([seq, what]) => what === 'cleared' && seq > first.seq)
        if (answer?.type === 'ok') {
          if (answer['seq'] !== first.seq) problems.push(`${first.seq} sent again is ${String(answer['seq'])}`)
        } else if (!cleared) {
          // No reader may have received the clearing yet, so that the table decides.
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
      // One after the other for each server.
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
    for (const { seq, id } of rows) stands(Number(seq), String(id))
    const cleared = Math.max(0, ...[...truth].flatMap(([seq, what]) => (what === 'cleared' ? [seq] : [])))
    const there = rows.map(({ seq }) => Number(seq))
    const want = Array.from({ length: end - cleared }, (_, i) => cleared + i + 1)
    if (JSON.stringify(there) !== JSON.stringify(want))
      problems.push(`rows after the clearing at ${cleared}: ${there.join(' ')}`)
    const ids = new Set(rows.map(({ id }) => id))
    for (const { seq, id } of said)
      if (ids.has(id) !== seq > cleared) problems.push(`${seq} was acknowledged; cleared up to ${cleared}`)
    if (new Set(said.map(({ id }) => id)).size !== said.length) problems.push('a message was acknowledged twice')
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
