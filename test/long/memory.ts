// An instance's memory: at rest, for each socket and each followed topic, and with each of its buffers full. The figures are in
// docs/operations.md (Sizing). Run: `npm run --silent compile && npx tap --timeout=900 --reporter=tap test/long/memory.ts`.
import { readFile, writeFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { WebSocket } from 'ws'
import { freshDatabase } from '../support/database.ts'
import { admin, door, makeMission, token, until } from '../support/server.ts'
import { spawnServer } from '../support/processes.ts'

const mebibyte = 1024 * 1024
const outboxes = 64 * mebibyte

await t.test('memory: prints what an instance and its full buffers take', { timeout: 900_000 }, async (t) => {
  const database = await freshDatabase(t, true)
  const env = { DATABASE_URL: database.url, OUTBOX_TOTAL_BYTES: String(outboxes), MAX_EVENT_LOOP_DELAY: '0' }
  const { url, process: child } = await spawnServer(t, env, [
    process.execPath,
    '--max-semi-space-size=8',
    new URL('../../dist/main.js', import.meta.url).pathname,
  ])
  const pid = child.pid ?? 0
  const kilobytes = async (name: string): Promise<number> =>
    Number(new RegExp(`${name}:\\s+(\\d+)`).exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1])
  const report = (what: string, kb: number, of = 1): void => {
    t.ok(kb > 0, what)
    t.comment(of === 1 ? `${what}: ${(kb / 1024).toFixed(0)} MB` : `${what}: ${((kb * 1024) / of).toFixed(0)} bytes`)
  }
  /** Prints the peak memory during some work, minus the memory before it. */
  const most = async (what: string, work: () => Promise<unknown>): Promise<void> => {
    await delay(3000)
    const before = await kilobytes('VmRSS')
    await writeFile(`/proc/${pid}/clear_refs`, '5')
    await work()
    report(what, (await kilobytes('VmHWM')) - before)
  }

  const server = door(t, url)
  const { id } = await makeMission(server)
  const citizens = await Promise.all(
    Array.from({ length: 8 }, async (_, n) => ({
      name: `c${n}`,
      bearer: await token({ sub: `c${n}`, role: 'citizen' }),
    })),
  )
  await delay(5000)
  report('at rest', await kilobytes('VmRSS'))

  const open = (bearer: string): Promise<WebSocket> =>
    new Promise((resolve, reject) => {
      const socket = new WebSocket(`${url.replace('http', 'ws')}/api/ws`, ['deck.v1', `bearer.${bearer}`])
      t.teardown(() => socket.terminate())
      socket.on('error', reject)
      socket.once('message', () => resolve(socket))
    })
  const rss = await kilobytes('VmRSS')
  const many = 2000
  const sockets: WebSocket[] = []
  for (let n = 0; n < many; n += 50) sockets.push(...(await Promise.all(Array.from({ length: 50 }, () => open(admin)))))
  await delay(3000)
  report('a quiet socket', (await kilobytes('VmRSS')) - rss, many)

  const withSockets = await kilobytes('VmRSS')
  const topics = 900
  let ok = 0
  for (const [s, socket] of sockets.slice(0, 10).entries()) {
    socket.on('message', (data: Buffer) => (ok += data.includes('"ok"') ? 1 : 0))
    for (let n = 0; n < topics; n++)
      socket.send(JSON.stringify({ type: 'subscribe', id: n, topic: `missions/${id}/chat/t${s}-${n}` }))
    await until(() => ok === (s + 1) * topics, 'all topics', 120_000)
  }
  await delay(3000)
  report('a followed topic, one socket each', (await kilobytes('VmRSS')) - withSockets, 10 * topics)
  for (const socket of sockets) socket.terminate()

  const code_blocks = [{ language: null, code: 'x'.repeat(240_000) }]
  await most('outboxes, 64 MiB', async () => {
    const readers = await Promise.all(citizens.concat(citizens).map(({ bearer }) => open(bearer)))
    const follow = readers.map(
      (socket, n) =>
        new Promise((resolve) => {
          socket.once('message', resolve)
          socket.send(JSON.stringify({ type: 'subscribe', id: 1, topic: `missions/${id}/chat/slow${n}` }))
        }),
    )
    await Promise.all(follow)
    for (const socket of readers) socket.pause()
    const waiting = async (): Promise<number> =>
      Number(/deck_outbox_bytes (\d+)/.exec((await server.request('GET', '/metrics')).text)?.[1])
    let reached = 0
    for (let n = 0; reached < outboxes / 2 && n < 60; n++) {
      await database.query(
        `insert into chat_messages (mission_id, citizen, sender, message, code_blocks)
         select $1, 'slow' || n, 'user', 'x', jsonb_build_array(jsonb_build_object('language', null, 'code', repeat('x', 240000)))
         from generate_series(0, 15) n`,
        [id],
      )
      reached = Math.max(reached, await waiting())
    }
    t.comment(`${(reached / mebibyte).toFixed(0)} MiB waited`)
    for (const socket of readers) socket.terminate()
  })

  await most('drafts, 64 MiB', async () => {
    const writers = await Promise.all(citizens.map(({ bearer }) => open(bearer)))
    const answered = { ok: 0, error: 0 }
    for (const socket of writers)
      socket.on('message', (data: Buffer) => answered[data.includes('"type":"ok"') ? 'ok' : 'error']++)
    for (const [n, socket] of writers.entries())
      for (let key = 0; key < 200; key++)
        socket.send(
          JSON.stringify({
            type: 'stream',
            id: key,
            topic: `missions/${id}/chat/c${n}`,
            key: `${key}`,
            delta: '中'.repeat(19_000),
          }),
        )
    await until(() => answered.ok + answered.error >= 1600, 'all drafts', 240_000)
    t.comment(`${answered.ok} drafts, ${answered.error} refused`)
    for (const socket of writers) socket.terminate()
  })

  const locked = async (statement: string, work: () => Promise<unknown>): Promise<void> => {
    const lock = await database.connect()
    await lock.query(`begin; ${statement}`)
    await work()
    await lock.query('commit')
  }
  await most('messages that wait to be written, 64 MiB', () =>
    locked('lock table chat_messages in access exclusive mode', async () => {
      const writers = await Promise.all(citizens.map(({ bearer }) => open(bearer)))
      let answered = 0
      for (const socket of writers) socket.on('message', () => answered++)
      for (const [n, socket] of writers.entries())
        for (let key = 0; key < 40; key++)
          socket.send(
            JSON.stringify({ type: 'send', id: key, topic: `missions/${id}/chat/c${n}`, message: 'x', code_blocks }),
          )
      await until(() => answered >= 320, 'all answers', 120_000)
      for (const socket of writers) socket.terminate()
    }),
  )
  await most('request bodies, 64 MiB', () =>
    locked(`select from missions where id = '${id}' for update`, () =>
      Promise.all(
        citizens.flatMap(({ bearer }) =>
          Array.from({ length: 8 }, () =>
            server.request('POST', `/api/missions/${id}/tests`, bearer, {
              results: ['x'.repeat(1_040_000)],
              summary: { a: 'x'.repeat(1_000_000) },
            }),
          ),
        ),
      ),
    ),
  )
})
