// The time machine: records a mission of ten minutes (chats, code, test runs, logs, a checklist, mission changes; by API and SQL),
// then replays it at 60 times its speed into the client. The replayed end state must equal the live state. The state at twenty random times
// must equal what a live watcher had at that time. MINUTES=1 records less. Run:
//   npx tap --timeout=900 --reporter=tap test/long/time-machine.ts
import t from 'tap'
import { connect, type TimelineEvent } from '../../src/client/index.ts'
import type { DodItem, Message, Mission, TestRun } from '../../src/protocol/rows.ts'
import { admin, alice, makeMission, rafael, startDeck, startInstance, token, until } from '../support/server.ts'

const minutes = Number(process.env['MINUTES'] ?? 10)
const { instance: one, database } = await startDeck(t)
const two = await startInstance(t, database.url)

type Happened = { event: string; data: unknown; topic?: string }
/** A client's state, built from events. Live and replayed events are applied in the same way. */
const makeState = () => {
  let mission: Mission | undefined
  const items = new Map<string, DodItem>()
  const runs = new Map<string, TestRun>()
  const messages = new Map<string, Message>()
  const logs = new Map<string, string>()
  return {
    apply({ event, data }: Happened): void {
      if (event === 'mission.updated') mission = data as Mission
      else if (event === 'dod_item.deleted') items.delete((data as DodItem).id)
      else if (event.startsWith('dod_item.')) items.set((data as DodItem).id, data as DodItem)
      else if (event.startsWith('test_run.')) runs.set((data as TestRun).id, data as TestRun)
      else if (event === 'message.created') messages.set((data as Message).id, data as Message)
      else if (event === 'chat.cleared') {
        const { citizen } = data as { citizen: string }
        for (const [id, message] of messages) if (message.citizen === citizen) messages.delete(id)
      } else if (event.startsWith('log.')) {
        const { run_id, chunk } = data as { run_id: string; chunk: string }
        logs.set(run_id, event === 'log.replaced' ? chunk : (logs.get(run_id) ?? '') + chunk)
      } else throw new Error(`unknown event: ${event}`)
    },
    /** The state in the form of the API's responses. */
    snapshot: () => {
      const list = [...items.values()]
      return {
        mission,
        dod: {
          items: list,
          progress: { completed: list.filter(({ completed }) => completed).length, total: list.length },
        },
        runs: [...runs.values()].sort((a, b) => (a.created_at < b.created_at ? 1 : -1)),
        messages: [...messages.values()].map(({ id, seq, message }) => ({ id, seq, message })),
        logs: Object.fromEntries(logs),
      }
    },
  }
}
const sorted = <T extends { messages: { id: string }[] }>(state: T): T => ({
  ...state,
  messages: state.messages.toSorted((a, b) => (a.id < b.id ? -1 : 1)),
})

void t.test(
  'time machine: the replay ends in the live state, and reads at past times return the state of that time',
  async (t) => {
    const { id } = await makeMission(one)
    const watcher = connect({ url: two.url, token: alice })
    const agent = connect({ url: one.url, token: rafael })
    const root = connect({ url: two.url, token: admin })
    const sofia = connect({ url: one.url, token: await token({ sub: 'sofia', role: 'citizen' }) })
    for (const deck of [watcher, agent, root, sofia]) t.teardown(deck.close)
    const sql = await database.connect()

    // Record.
    const live = makeState()
    let received = 0
    const take = (event: Happened): void => {
      received++
      live.apply(event)
    }
    const following: (() => void)[] = [
      watcher.mission(id).on('*', take as never, { after: 0 }),
      watcher.dod(id).on('*', take as never, { after: 0 }),
      watcher.tests(id).on('*', take as never, { after: 0 }),
      ...['rafael', 'sofia', 'emma'].map((name) => watcher.chat(id, name).on('*', take as never, { after: 0 })),
    ]
    const watchLogs = (run: string): void =>
      void following.push(
        watcher
          .tests(id)
          .logs(run)
          .on('*', take as never, { after: 0 }),
      )
    const first = await watcher.mission(id).get()

    const items: string[] = []
    const runs: string[] = []
    let n = 0
    const any = <T>(list: T[]): T | undefined => list[Math.floor(Math.random() * list.length)]
    const code = (): string => `Step ${n}:\n\n\`\`\`python\nprint(${n})\n\`\`\`\n`
    const acts: (() => Promise<unknown>)[] = [
      () => watcher.chat(id, 'rafael').send(`question ${n}`),
      () => agent.chat(id, 'rafael').send(code()),
      () => sofia.chat(id, 'sofia').send(code()),
      () =>
        sql.query(`insert into chat_messages (mission_id, citizen, sender, message) values ($1, 'emma', 'user', $2)`, [
          id,
          `sql ${n}`,
        ]),
      async () => items.push((await agent.dod(id).add({ text: `item ${n}`, category: 'tests' })).id),
      () => watcher.dod(id).set(any(items) ?? '', n % 2 === 0),
      () => sql.query('update dod_items set completed = not completed where mission_id = $1', [id]),
      async () => {
        const { id: run } = await agent.tests(id).create({})
        runs.push(run)
        watchLogs(run)
      },
      () =>
        agent
          .tests(id)
          .logs(any(runs) ?? '')
          .append(`line ${n}\n`),
      () =>
        agent
          .tests(id)
          .update(any(runs) ?? '', { status: any(['passed', 'failed'] as const) ?? 'passed', summary: { n } }),
      () => root.mission(id).patch({ title: `Title ${n}` }),
      async () => {
        if (n % 20) return
        await root.chat(id, 'emma').clear()
      },
      async () => {
        if (n % 5 || items.length < 5) return
        await root.dod(id).remove(items.shift() ?? '')
      },
    ]
    items.push((await agent.dod(id).add({ text: 'the first', category: 'functional' })).id)
    runs.push((await agent.tests(id).create({})).id)
    watchLogs(runs[0] ?? '')

    /** Waits until the watcher has every event: as many as the sum of the topics' latest seqs. */
    const settle = (): Promise<void> =>
      until(async () => {
        const [row] = await database.query(
          `select sum(seq)::integer as n from (
           select max(seq) as seq from (
             select topic, seq from deck.events where topic like 'missions/' || $1::uuid || '%'
             union all select 'missions/' || mission_id || '/chat/' || citizen, seq from chat_messages where mission_id = $1) x
           group by topic) y`,
          [id],
        )
        return received === row?.['n']
      }, 'the watcher to have every event')
    const states: { at: string; state: ReturnType<typeof live.snapshot> }[] = []
    const end = performance.now() + minutes * 60_000
    const picks = Array.from({ length: 20 }, () => performance.now() + Math.random() * (minutes * 60_000 - 2000)).sort(
      (a, b) => a - b,
    )
    while (performance.now() < end) {
      n++
      await any(acts)?.()
      if (performance.now() > (picks[0] ?? Infinity)) {
        picks.shift()
        await settle()
        const [row] = await database.query(
          `select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at`,
        )
        states.push({ at: String(row?.['at']), state: structuredClone(live.snapshot()) })
      }
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 600))
    }
    await settle()
    for (const off of following) off()

    // Replay.
    const again = makeState()
    const events: TimelineEvent[] = []
    const since = performance.now()
    for await (const event of watcher.replay(id, { speed: 60, logs: true })) {
      events.push(event)
      again.apply(event)
    }
    const seconds = (performance.now() - since) / 1000
    const span = (Date.parse(events.at(-1)?.at ?? '') - Date.parse(events[0]?.at ?? '')) / 1000
    t.ok(seconds > span / 60 - 1 && seconds < span / 60 + 10, `${span.toFixed(1)} s in ${seconds.toFixed(1)} s`)
    t.strictSame(sorted(again.snapshot()), sorted(live.snapshot()), 'the replayed end state is the live one')
    t.strictSame(again.snapshot().dod, await watcher.dod(id).list(), 'the state that the API returns')
    t.strictSame(again.snapshot().mission, await watcher.mission(id).get())

    t.equal(states.length, 20)
    for (const { at, state } of states) {
      t.strictSame(await watcher.dod(id).list({ at }), state.dod, `the checklist at ${at}`)
      const found: TestRun[] = []
      for (let cursor: string | undefined; ;) {
        const page = await watcher.tests(id).list({ at, limit: 100, ...(cursor ? { cursor } : {}) })
        found.push(...page.test_runs)
        if (page.next === null) break
        cursor = page.next
      }
      t.strictSame(found, state.runs, `the runs at ${at}`)
      t.strictSame(await watcher.mission(id).get({ at }), state.mission ?? first, `the mission at ${at}`)
    }
    t.comment(
      `${events.length} events of ${span.toFixed(0)} s replayed in ${seconds.toFixed(1)} s; ${states.length} times compared`,
    )
  },
)
