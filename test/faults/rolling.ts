// A rolling replacement: two servers under load are replaced one by one, as a platform does it.
// The new server starts, migrates, and gets traffic once it is ready. Then the old server receives SIGTERM.
// The test compares the acknowledged messages with the table and with each follower.
import type { Test } from 'tap'
import { setTimeout as delay } from 'node:timers/promises'
import type { FreshDatabase } from '../support/database.ts'
import { alice, door, makeMission, until } from '../support/server.ts'
import { spawnServer, type Server } from '../support/processes.ts'
import { compare, makeFollower, makeLedger, makeSender, type Row } from '../support/users.ts'

export type Rolled = {
  messages: number
  perSecond: number
  /** The longest time between two deliveries to a follower, in ms. */
  gap: number
  /** Times from SIGTERM to the exit, in ms. */
  stops: number[]
  wrong: string[]
  told: Map<string, number>
  /** The number of keyless sends with an unknown outcome. */
  maybe: number
}

export const roll = async (
  t: Test,
  database: FreshDatabase,
  options: {
    /** The command that starts the old servers. Without it they start like the new ones. */
    before?: string[]
    /** Whether an old server is restarted between the two replacements, on the new servers' schema. */
    restart?: boolean
    senders: number
    /** The interval between two messages of a sender, in ms. */
    pace: number
    /** The time under load before, between and after the replacements, in ms. */
    calm: number
  },
): Promise<Rolled> => {
  const start = (command?: string[]): Promise<Server> =>
    spawnServer(t, { DATABASE_URL: database.url, LOG_LEVEL: 'error', MAX_EVENT_LOOP_DELAY: '0' }, command)
  const old = [await start(options.before), await start(options.before)]
  const open = old.map(({ url }) => url)
  let turn = 0
  const where = (): string => open[turn++ % open.length] ?? ''
  const missions = await Promise.all([1, 2].map(() => makeMission(door(t, where()))))
  const topics = missions.flatMap(({ id }) => ['rafael', 'sofia', 'emma'].map((name) => `missions/${id}/chat/${name}`))

  const ledger = makeLedger()
  const gaps = [0, 0, 0, 0]
  const last = gaps.map(() => performance.now())
  const followers = gaps.map((_, i) =>
    makeFollower({
      where,
      token: alice,
      topics,
      onEvent() {
        const now = performance.now()
        gaps[i] = Math.max(gaps[i] ?? 0, now - (last[i] ?? now))
        last[i] = now
      },
    }),
  )
  const senders = Array.from({ length: options.senders }, (_, n) =>
    makeSender({
      where,
      token: alice,
      topic: topics[n % topics.length] ?? '',
      ledger,
      keyed: n % 4 > 0,
      pace: options.pace,
      steady: true,
    }),
  )
  await until(() => topics.every((topic) => followers.every((follower) => follower.has(topic, 1))), 'the load', 30_000)
  // The measurement begins here.
  gaps.fill(0)
  last.fill(performance.now())
  const begun = performance.now()
  const already = ledger.acknowledged.length
  await delay(options.calm)
  const stops: number[] = []
  /** Starts a server, sends it traffic once it is ready, and stops the old server. */
  const replace = async (server: Server | undefined, command?: string[]): Promise<Server> => {
    const next = await start(command)
    await until(
      async () => (await door(t, next.url).request('GET', '/readyz')).status === 200,
      'the new server to be ready',
    )
    open.push(next.url)
    if (!server) return next
    open.splice(open.indexOf(server.url), 1)
    const since = performance.now()
    server.process.kill('SIGTERM')
    const code = await server.exited()
    if (code !== 0) t.fail(`an old server ended with ${code}: ${server.output()}`)
    stops.push(performance.now() - since)
    await delay(options.calm)
    return next
  }
  await replace(old[0])
  const second = options.restart ? await replace(old[1], options.before) : old[1]
  await replace(second)
  const seconds = (performance.now() - begun) / 1000
  const messages = ledger.acknowledged.length - already
  const gap = Math.max(...gaps)
  await Promise.all(senders.map((sender) => sender.stop()))

  const wrong: string[] = []
  for (const topic of topics) {
    const [, mission = '', , citizen = ''] = topic.split('/')
    const rows = (await database.query(
      'select seq::int, id, message as text from chat_messages where mission_id = $1 and citizen = $2 order by seq',
      [mission, citizen],
    )) as Row[]
    for (const follower of followers)
      if (!(await follower.reaches(topic, rows.length, 10_000))) wrong.push(`${topic}: a follower is late`)
    wrong.push(...compare(topic, rows, ledger, followers))
  }
  await Promise.all(followers.map((follower) => follower.stop()))
  return { messages, perSecond: messages / seconds, gap, stops, wrong, told: ledger.told, maybe: ledger.maybe.size }
}
