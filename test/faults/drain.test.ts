// A stop, even if Postgres or a client hangs: exit 0 within 10 s. Every client receives retry_after. A second signal exits at once.
import t from 'tap'
import { alice, door, makeMission, until } from '../support/server.ts'
import { spawnServer } from '../support/processes.ts'
import { startPostgres } from '../support/postgres.ts'

const postgres = await startPostgres(t)
const start = () => spawnServer(t, { DATABASE_URL: postgres.url() })

await t.test('SIGTERM while Postgres hangs: goodbye, 1012, what waits is answered, exit 0 within 10 s', async (t) => {
  const server = await start()
  const deck = door(t, server.url)
  const { id } = await makeMission(deck)
  const topic = `missions/${id}/chat/rafael`
  const clients = await Promise.all(Array.from({ length: 20 }, () => deck.connect(alice)))
  t.match(await clients[0]?.ask({ type: 'send', topic, message: 'before' }), { type: 'ok' })
  await postgres.freeze()
  t.teardown(postgres.thaw)
  const waiting = clients.map((client) => client.ask({ type: 'send', topic, message: 'into the void' }))
  await clients[0]?.ask({ type: 'ping' })
  const begun = performance.now()
  server.process.kill('SIGTERM')
  await until(() => deck.request('GET', '/readyz').then(({ status }) => status === 503), 'it to say so')
  t.match((await deck.request('GET', `/api/${topic}`, alice)).json, { code: 'unavailable' }, 'no new work')
  await t.rejects(deck.connect(alice), 'no new sockets')
  for (const answer of await Promise.all(waiting)) t.match(answer, { code: 'unavailable' })
  t.equal(await server.exited(), 0)
  t.ok(performance.now() - begun < 10_000, `${performance.now() - begun} ms`)
  await until(() => clients.every(({ closed }) => closed), 'the close')
  const retries = clients.map((client) => {
    t.equal(client.closed?.code, 1012)
    const goodbyes = client.frames.filter(({ type }) => type === 'goodbye')
    t.match(goodbyes, [{ reason: 'restart', retry_after: Number }])
    return Number(goodbyes[0]?.['retry_after'])
  })
  t.ok(new Set(retries).size > 5, 'not all at once')
  postgres.thaw()
})

await t.test('a second signal exits at once', async (t) => {
  const server = await start()
  const deck = door(t, server.url)
  const { id } = await makeMission(deck)
  const client = await deck.connect(alice)
  await postgres.freeze()
  t.teardown(postgres.thaw)
  const waiting = client.ask({ type: 'send', topic: `missions/${id}/chat/rafael`, message: 'x' }).catch(() => 'closed')
  await client.ask({ type: 'ping' })
  server.process.kill('SIGTERM')
  await client.frame(({ type }) => type === 'goodbye')
  server.process.kill('SIGTERM')
  t.not(await server.exited(), 0)
  t.equal(await waiting, 'closed', 'not even waited for')
  postgres.thaw()
})

await t.test('an embedded Postgres that hangs does not keep its server from ending', async (t) => {
  const { mkdtemp, readFile, rm } = await import('node:fs/promises')
  const { tmpdir } = await import('node:os')
  const { join } = await import('node:path')
  const folder = await mkdtemp(join(tmpdir(), 'mission-deck-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const server = await spawnServer(t, { DATA_DIR: folder })
  const pid = Number((await readFile(join(folder, 'postgres', 'postmaster.pid'), 'utf8')).split('\n')[0])
  process.kill(pid, 'SIGSTOP')
  t.teardown(() => {
    process.kill(pid, 'SIGCONT')
    process.kill(pid, 'SIGQUIT')
  })
  server.process.kill('SIGTERM')
  t.equal(await server.exited(), 0)
})
