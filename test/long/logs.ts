// Appends a log of LOG_MB (200) megabytes in chunks of 1 KB. Prints each tenth's CPU time, the server's memory, and the
// time to read all of the log, its last 100 lines and a range. Run:
//   npx tap --timeout=900 --reporter=tap test/long/logs.ts
// Chunks are sent over HTTP, one a request. With LOG_SQL=1 they are appended by deck.append_log, 50 a statement, which measures only
// the database. CPU time is compared, because other processes may use the machine. Figures come from /proc: Linux only.
import { readFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import t from 'tap'
import { freshDatabase } from '../support/database.ts'
import { door, makeMission, rafael } from '../support/server.ts'
import { spawnServer } from '../support/processes.ts'

t.setTimeout(900_000)
const megabytes = Number(process.env['LOG_MB'] ?? 200)
const bySql = process.env['LOG_SQL'] === '1'
const chunks = megabytes * 1000
const line = (n: number): string => `\u001b[32m${String(n).padStart(9, '0')}\u001b[0m ${'x'.repeat(980)}\n`
const size = Buffer.byteLength(line(1))

const database = await freshDatabase(t)
const server = await spawnServer(t, { DATABASE_URL: database.url, LOG_LEVEL: 'error' })
const { request: ask } = door(t, server.url)
const mission = await makeMission(door(t, server.url))
const run = (await ask('POST', `/api/missions/${mission.id}/tests`, rafael, {})).json['id'] as string
const path = `/api/missions/${mission.id}/tests/${run}/logs`
const pid = server.process.pid ?? 0
/** A process's memory in MB, now (VmRSS) or at its peak (VmHWM). */
const memory = (pid: number, of: 'VmRSS' | 'VmHWM'): number =>
  Number(new RegExp(`${of}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024

/** The CPU time of a process in ms; 0 if it has ended. */
const cpuOf = (pid: number): number => {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
    return (Number(fields[11]) + Number(fields[12])) * 10
  } catch {
    return 0
  }
}

const agent = new Agent({ keepAlive: true, maxSockets: 1 })
const append = (text: string): Promise<void> =>
  new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${rafael}`, 'content-type': 'text/plain' }
    request(server.url + path, { method: 'POST', agent, headers }, (answer) => {
      answer.resume()
      answer.on('end', () => (answer.statusCode === 200 ? resolve() : reject(new Error(String(answer.statusCode)))))
    })
      .on('error', reject)
      .end(text)
  })
/** Reads the log. Resolves with its bytes, the time in ms, and the text if it is short. */
const read = (
  query: string,
  headers: Record<string, string> = {},
): Promise<{ bytes: number; ms: number; text: string }> =>
  new Promise((resolve, reject) => {
    const since = performance.now()
    request(
      server.url + path + query,
      { agent, headers: { authorization: `Bearer ${rafael}`, ...headers } },
      (answer) => {
        let bytes = 0
        let text = ''
        answer.on('data', (data: Buffer) => {
          bytes += data.length
          if (bytes < 1e6) text += data.toString('latin1')
        })
        answer.on('end', () => resolve({ bytes, ms: performance.now() - since, text }))
      },
    )
      .on('error', reject)
      .end()
  })

void t.test('logs: the last tenth of a large log costs as much CPU as the first', async (t) => {
  const client = await database.connect()
  await client.query('set plan_cache_mode = force_generic_plan')
  const cpu = async (): Promise<number> => {
    const rows = await database.query('select pid from pg_stat_activity where datname = current_database()')
    return [pid, ...rows.map((row) => Number(row['pid']))].reduce((sum, one) => sum + cpuOf(one), 0)
  }
  const tenths: number[] = []
  for (let tenth = 0; tenth < 10; tenth++) {
    const since = performance.now()
    const before = await cpu()
    for (let n = (tenth * chunks) / 10; n < ((tenth + 1) * chunks) / 10; n += bySql ? 50 : 1)
      if (bySql) {
        const lines = Array.from({ length: 50 }, (_, i) => line(n + i))
        const text = 'select deck.append_log($1, $2, line) from unnest($3::text[]) line'
        await client.query({ name: 'append', text, values: [mission.id, run, lines] })
      } else await append(line(n))
    tenths.push((((await cpu()) - before) / chunks) * 10)
    t.comment(
      `tenth ${tenth + 1}: CPU ${tenths.at(-1)?.toFixed(2)} ms a chunk, ${(((performance.now() - since) / chunks) * 10).toFixed(2)} ms by the clock; ` +
        `the server holds ${memory(pid, 'VmRSS').toFixed(0)} MB, at most ${memory(pid, 'VmHWM').toFixed(0)} MB`,
    )
  }
  t.ok((tenths[9] ?? 0) < 1.5 * (tenths[0] ?? 0), 'the last tenth costs as much CPU as the first')
  const before = memory(pid, 'VmRSS')
  const all = await read('')
  t.equal(all.bytes, chunks * size, 'the whole log is returned')
  t.comment(
    `read: ${(all.bytes / 1e6).toFixed(0)} MB in ${(all.ms / 1000).toFixed(1)} s; the server ${before.toFixed(0)} -> at most ${memory(pid, 'VmHWM').toFixed(0)} MB`,
  )
  for (const [what, query, headers, expected] of [
    ['the last 100 lines', '?tail=100', {}, Array.from({ length: 100 }, (_, i) => line(chunks - 100 + i)).join('')],
    [
      '1,000 bytes in the middle',
      '',
      { range: `bytes=${size * (chunks / 2)}-${size * (chunks / 2) + size - 1}` },
      line(chunks / 2),
    ],
  ] as const) {
    await read(query, headers)
    const part = await read(query, headers)
    t.equal(part.text, expected, what)
    t.comment(`${what}: ${part.ms.toFixed(1)} ms`)
  }
  const [row] = await database.query(
    `select octet_length(logs) as folded, pg_size_pretty(pg_total_relation_size('deck.events')) as events,
       pg_size_pretty(pg_total_relation_size('deck.log_sizes')) as sizes from test_runs where id = $1`,
    [run],
  )
  t.comment(JSON.stringify(row))
  agent.destroy()
})
