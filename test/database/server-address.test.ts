// The address of Postgres: libpq URLs with one or several hosts, TLS if the server has it, and the choice of the primary.
import { createServer } from 'node:net'
import t from 'tap'
import { parseServerUrl, makeServerAddress } from '../../src/database/postgres/server-address.ts'
import { serverUrl } from '../support/database.ts'
import { startInstance } from '../support/server.ts'
import { freshDatabase } from '../support/database.ts'

const urls = (text: string): string[] => {
  const { hosts, urlOf } = parseServerUrl(text, {})
  return hosts.map((host) => urlOf(host, false).replace(/\?.*/, ''))
}

void t.test('database URL: one or several hosts, with and without ports, in the authority or in the query', (t) => {
  t.strictSame(urls('postgres://u:p@a/db'), ['postgres://u:p@a/db'])
  t.strictSame(urls('postgresql://u:p%40@a:1,b:2/db'), ['postgresql://u:p%40@a:1/db', 'postgresql://u:p%40@b:2/db'])
  t.strictSame(urls('postgres://u@a,b/db?target_session_attrs=read-write'), ['postgres://u@a/db', 'postgres://u@b/db'])
  t.strictSame(urls('postgres://u@/db?host=a,b&port=1,2'), ['postgres://u@a:1/db', 'postgres://u@b:2/db'])
  t.strictSame(urls('postgres://u@/db?host=a,b&port=1'), ['postgres://u@a:1/db', 'postgres://u@b:1/db'])
  t.strictSame(urls('postgres://u@[::1]:1,b:2/db'), ['postgres://u@[::1]:1/db', 'postgres://u@b:2/db'])
  t.match(parseServerUrl('postgres:///db?host=/tmp', {}).urlOf('/tmp', undefined), /host=%2Ftmp/)
  t.match(parseServerUrl('postgres://a,b/db?sslmode=verify-full', {}).urlOf('b', undefined), /sslmode=verify-full/)
  t.throws(() => parseServerUrl('postgres://u:p@a:x/db', {}), { code: 'ERR_INVALID_URL' })
  t.throws(() => parseServerUrl('not a url', {}), { code: 'ERR_INVALID_URL' })
  t.throws(() => parseServerUrl('postgres://a/db?target_session_attrs=best', {}), /target_session_attrs is one of/)
  t.end()
})

void t.test('server address: finds the host that answers, and forgets it on request', async (t) => {
  const { port, username, password, pathname } = new URL(serverUrl())
  const dead = createServer((socket) => socket.destroy())
  await new Promise<void>((resolve) => dead.listen(0, '127.0.0.1', resolve))
  t.teardown(() => dead.close())
  const { port: deadPort } = dead.address() as { port: number }
  const text = `postgres://${username}:${password}@127.0.0.1:${deadPort},127.0.0.1:${port}${pathname}?target_session_attrs=read-write`
  const address = makeServerAddress(text, { primary: true })
  t.equal(address.known(), undefined)
  const found = await address.locate()
  t.match(found, `127.0.0.1:${port}`)
  t.equal(address.known(), found)
  address.forget()
  t.equal(address.known(), undefined)
  const standby = makeServerAddress(text.replace('read-write', 'standby'), { primary: false })
  await t.rejects(standby.locate(), /none of 2 servers is standby|ECONNRESET|terminated/)
})

void t.test('database URL: an instance runs on a URL with several hosts', async (t) => {
  const database = await freshDatabase(t, true)
  const url = new URL(database.url)
  const several = database.url.replace(url.host, `127.0.0.1:9,${url.host}`)
  const instance = await startInstance(t, several)
  t.equal((await instance.request('GET', '/readyz')).status, 200)
})
