// A stop, even if Postgres or a client hangs: exit 0 within 10 s. Every client receives retry_after. A second signal exits at once.
import t from 'tap'
import { alice, door, makeMission, until } from '../support/server.ts'
import { spawnServer } from '../support/processes.ts'
import { startPostgres } from '../support/postgres.ts'

const postgres = await startPostgres(t)
const start = () => spawnServer(t, { DATABASE_URL: postgres.url() })

await t.test('drain: answers pending sends and exits with 0 within 10 s when Postgres hangs', async (t) => {
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
  await until(() => deck.request('GET', '/readyz').then(({ status }) => status === 503), '/readyz to return 503')
  t.match((await deck.request('GET', `/api/${topic}`, alice)).json, { code: 'unavailable' }, 'new requests are refused')
  await t.rejects(deck.connect(alice), 'new sockets are refused')
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
  t.ok(new Set(retries).size > 5, 'clients do not reconnect all at once')
  postgres.thaw()
})

await t.test('drain: a second signal exits at once', async (t) => {
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
  t.equal(await waiting, 'closed', 'the pending send is not awaited')
  postgres.thaw()
})

await t.test('drain: the server exits when its embedded Postgres hangs', async (t) => {
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
