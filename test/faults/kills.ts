// Questions by API and SQL to one citizen, on two servers, while workers in processes of their own are killed, and servers are killed
// and restarted, at random. In the end each question has exactly one answer. The run reports how long the questions of a killed worker waited
// for the next worker.
import { spawn, type ChildProcess } from 'node:child_process'
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import { freshDatabase } from '../support/database.ts'
import { startWire, type Wire } from '../support/socket-proxy.ts'
import { alice, door, makeMission, rafael, until } from '../support/server.ts'
import { spawnServer, type Server } from '../support/processes.ts'

type KillOptions = {
  questions: number
  script: string
  /** how a worker is started, if not by Node with the script */
  command?: string[]
  env?: NodeJS.ProcessEnv
  /** three, if left out */
  workers?: number
  /** ms between two kills */
  killEvery: number
  /** kills; without it, until nine of ten questions are answered */
  most?: number
  /** ms between two questions */
  pause?: number
}

/**
 * `script`: a module that answers rafael's questions at URL with TOKEN. It prints a line `{ task, attempt }` for each task that it takes, and
 * replies `re: QUESTION 🎛️` under the key `task:ID`.
 */
export const killWorkers = async (
  t: Test,
  { questions, script, command, env, workers: count = 3, killEvery, most = Infinity, pause = 20 }: KillOptions,
): Promise<void> => {
  const database = await freshDatabase(t)
  const start = (): Promise<Server> => spawnServer(t, { DATABASE_URL: database.url, LOG_LEVEL: 'error' })
  type Place = { server: Server | undefined; wire: Wire }
  const makePlace = async (): Promise<Place> => {
    const server = await start()
    return { server, wire: await startWire(t, server.url) }
  }
  const places = [await makePlace(), await makePlace()]
  const missions = await Promise.all([1, 2, 3].map(() => makeMission(door(t, places[0]?.server?.url ?? ''))))

  // Workers ---------------------------------------------------------------------------------------------------------------

  type Worker = { child: ChildProcess; tasks: Set<string> }
  const given = new Map<string, { attempt: number; lostAt: number | undefined }>()
  const takeovers: number[] = []
  const errors = new Map<string, number>()

  const startWorker = (n: number): Worker => {
    const [file = '', ...args] = command ?? [process.execPath, '--input-type=module', '-e', script]
    const child = spawn(file, args, {
      env: { PATH: process.env['PATH'], URL: places[n % 2]?.wire.url, TOKEN: rafael, ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const worker: Worker = { child, tasks: new Set() }
    t.teardown(() => child.kill('SIGKILL'))
    let rest = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) {
        const { task, attempt = 0, error } = JSON.parse(line) as { task?: string; attempt?: number; error?: string }
        if (error) errors.set(error, (errors.get(error) ?? 0) + 1)
        if (task === undefined) continue
        const { lostAt } = given.get(task) ?? {}
        if (lostAt !== undefined) takeovers.push(performance.now() - lostAt)
        given.set(task, { attempt, lostAt: undefined })
        worker.tasks.add(task)
      }
    })
    return worker
  }
  const workers = Array.from({ length: count }, (_, n) => startWorker(n))

  /** Kills a worker without a close. Its unanswered questions wait for the next worker from now on. */
  const killWorker = async (n: number): Promise<void> => {
    const worker = workers[n]
    worker?.child.kill('SIGKILL')
    const answered = await database.query(`select key from chat_messages where sender = 'citizen'`)
    const done = new Set(answered.map(({ key }) => String(key).replace('task:', '')))
    for (const task of worker?.tasks ?? [])
      if (!done.has(task)) given.set(task, { attempt: given.get(task)?.attempt ?? 1, lostAt: performance.now() })
    workers[n] = startWorker(n)
  }
  const killServer = async (n: number): Promise<void> => {
    const place = places[n]
    const { server } = place ?? {}
    if (!place || !server) return
    place.server = undefined
    server.process.kill('SIGKILL')
    place.server = await start()
    place.wire.target = place.server.url
  }

  // Questions -------------------------------------------------------------------------------------------------------------

  const post = async (n: number): Promise<void> => {
    const path = `/api/missions/${missions[n % 3]?.id}/chat/rafael`
    for (;;) {
      const url = places.find(({ server }) => server !== undefined)?.server?.url ?? ''
      const answer = await door(t, url)
        .request('POST', path, alice, { message: `question ${n}`, key: `question ${n}` })
        .catch(() => undefined)
      if (answer && answer.status < 300) return
      await delay(50)
    }
  }
  const insert = (n: number) =>
    database.query(
      `insert into chat_messages (mission_id, citizen, sender, message) values ($1, 'rafael', 'user', $2)`,
      [missions[n % 3]?.id, `question ${n}`],
    )

  await until(
    async () => (await database.query(`select from deck.inboxes where citizen = 'rafael'`)).length > 0,
    'the inbox',
  )
  let over = false
  const kills = { worker: 0, server: 0 }
  // A server that starts while the test ends would end with an error.
  const starting: Promise<void>[] = []
  const chaos = (async () => {
    while (!over && kills.worker + kills.server < most) {
      await delay(killEvery * (0.6 + Math.random() * 0.8))
      if (over) break
      if (Math.random() < 0.5) {
        kills.worker++
        await killWorker(Math.floor(Math.random() * count))
      } else {
        kills.server++
        starting.push(killServer(Math.floor(Math.random() * 2)))
      }
    }
  })()
  const begun = performance.now()
  const patience = 120_000 + 500 * questions
  for (let n = 0; n < questions; n++) {
    await (n % 2 ? insert(n) : post(n))
    await delay(pause)
  }
  const answers = () => database.query(`select key, message from chat_messages where sender = 'citizen'`)
  const answered = async (): Promise<number> => new Set((await answers()).map(({ message }) => message)).size
  // Kills continue until nine of ten questions are answered.
  await until(async () => (await answered()) >= questions * 0.9, 'most to be answered', patience)
  over = true
  await chaos
  await Promise.all(starting)
  await until(async () => (await answered()) >= questions, 'all to be answered', patience)
  const seconds = (performance.now() - begun) / 1000
  const rows = await answers()
  t.equal(rows.length, questions, 'one answer for each question')
  t.strictSame(
    new Set(rows.map(({ message }) => message)),
    new Set(Array.from({ length: questions }, (_, n) => `re: question ${n} 🎛️`)),
    'the answer belongs to its question',
  )
  await until(
    async () => (await database.query('select from deck.tasks where ended is null')).length === 0,
    'all tasks to end',
    60_000,
  )
  t.equal((await database.query('select from deck.tasks where dead')).length, 0, 'no task is dead')
  takeovers.sort((a, b) => a - b)
  const at = (part: number): string => ((takeovers[Math.floor((takeovers.length - 1) * part)] ?? 0) / 1000).toFixed(1)
  t.comment(
    `${questions} answered in ${seconds.toFixed(0)} s through ${kills.worker} kills of workers and ${kills.server} of servers; ` +
      `${takeovers.length} take-overs after ${at(0)} to ${at(1)} s, median ${at(0.5)} s; client errors: ${JSON.stringify([...errors])}`,
  )
}
