// The time machine: a mission of ten minutes is recorded (chats, code, test runs with logs, a checklist, changes of the mission; by the API and
// by SQL), then replayed at 60 times its speed into the client; the end state is the live one, and the state at twenty random times is what
// a live watcher held then. MINUTES=1 records less. Run: npx tap --timeout=900 --reporter=tap test/long/time-machine.ts
import t from 'tap'
import { connect, type TimelineEvent } from '../../src/client/index.ts'
import type { DodItem, Message, Mission, TestRun } from '../../src/protocol/rows.ts'
import { admin, alice, makeMission, rafael, startDeck, startInstance, token, until } from '../support/server.ts'

const minutes = Number(process.env['MINUTES'] ?? 10)
const { instance: one, database } = await startDeck(t)
const two = await startInstance(t, database.url)

type Happened = { event: string; data: unknown; topic?: string }
/** What a watcher makes of events: the same of live ones and of replayed ones. */
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
      } else throw new Error(`what is ${event}?`)
    },
    /** As the API has it. */
    look: () => {
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
  'a recorded mission is replayed into the state that it has, and every time in it is found again',
  async (t) => {
    const { id } = await makeMission(one)
    const watcher = connect({ url: two.url, token: alice })
    const agent = connect({ url: one.url, token: rafael })
    const root = connect({ url: two.url, token: admin })
    const sofia = connect({ url: one.url, token: await token({ sub: 'sofia', role: 'citizen' }) })
    for (const deck of [watcher, agent, root, sofia]) t.teardown(deck.close)
    const sql = await database.connect()

    // Live.
    const live = makeState()
    let heard = 0
    const take = (event: Happened): void => {
      heard++
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

    /** Until the watcher has all events that there were: as many as the topics' seqs say. */
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
        return heard === row?.['n']
      }, 'the watcher has all')
    const states: { at: string; state: ReturnType<typeof live.look> }[] = []
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
        states.push({ at: String(row?.['at']), state: structuredClone(live.look()) })
      }
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 600))
    }
    await settle()
    for (const off of following) off()

    // Again.
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
    t.strictSame(sorted(again.look()), sorted(live.look()), 'the end state is the live one')
    t.strictSame(again.look().dod, await watcher.dod(id).list(), 'and the one that is read')
    t.strictSame(again.look().mission, await watcher.mission(id).get())

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
