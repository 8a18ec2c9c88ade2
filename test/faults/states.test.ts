// States of the database that only a new connection, another server or an operator cures: read-only, demoted to a standby,
// with a new password, renamed, without its schema. Writers receive `unavailable`, never `internal`. /readyz names the fault.
// When the state ends, the instance recovers within seconds, without an operator.
// A starting instance waits for such a database. Two restored backups have different epochs.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openCluster } from '../../src/database/embedded/cluster.ts'
import { connectTo, makePlace, makeStandby, provide, settings, start, type Started } from '../support/clusters.ts'
import {
  admin,
  alice,
  makeMission,
  realDeadlines,
  startInstance,
  until,
  type Instance,
  type Json,
} from '../support/server.ts'
import { startProxy } from '../support/database-proxy.ts'

/** A primary, and an instance that reaches it through a proxy with a constant address. */
const begin = async (t: Test) => {
  const place = await makePlace(t)
  const primary = await start(t, await openCluster(join(place, 'primary'), { ...settings, wal_keep_size: '64MB' }))
  await provide(primary, 'deck')
  const proxy = await startProxy(t)
  const instance = await startInstance(t, proxy.url(primary.url('deck', 'deck')), {
    limits: { ...realDeadlines, writeDeadline: 1500 },
  })
  const { id } = await makeMission(instance)
  return { place, primary, proxy, instance, id }
}

/** Ends every session of the role deck, as a failover does. */
const disconnect = ({ admin }: Started): Promise<unknown> =>
  admin.query(`select pg_terminate_backend(pid) from pg_stat_activity where usename = 'deck'`)

const failing = async (instance: Instance): Promise<string[]> =>
  ((await instance.request('GET', '/readyz')).json['checks'] as Json[])
    .filter(({ ok }) => !ok)
    .map(({ check }) => String(check))

/** Writes over the socket and over HTTP. Returns the codes of the answers. */
const write = async (instance: Instance, id: string): Promise<Set<string>> => {
  const codes = new Set<string>()
  const client = await instance.connect(alice)
  await Promise.all([
    ...Array.from({ length: 5 }, async (_, n) => {
      const answer = await client.ask({
        type: 'send',
        topic: `missions/${id}/chat/c${n}`,
        message: 'x',
        key: `${Math.random()}`,
      })
      codes.add(answer['type'] === 'ok' ? 'ok' : String(answer['code']))
    }),
    instance
      .request('POST', `/api/missions/${id}/chat/rafael`, alice, { message: 'x' })
      .then(({ json }) => codes.add(String(json['code']))),
    instance
      .request('PATCH', `/api/missions/${id}`, admin, { title: 'x' })
      .then(({ json }) => codes.add(String(json['code']))),
    instance
      .request('POST', `/api/missions/${id}/tests/run`, alice)
      .then(({ json }) => codes.add(String(json['code']))),
  ])
  client.close()
  return codes
}

const recovered = async (t: Test, instance: Instance, id: string): Promise<void> => {
  const since = performance.now()
  await until(
    async () =>
      (await instance.request('POST', `/api/missions/${id}/chat/rafael`, alice, { message: 'recovered' })).status ===
      201,
    'a message to be stored again',
  )
  await until(async () => (await failing(instance)).length === 0, 'the instance to be ready')
  t.comment(`recovered after ${Math.round(performance.now() - since)} ms`)
}

void t.test('database states: unavailable when read-only, without login, renamed or without schema', async (t) => {
  const { primary, instance, id } = await begin(t)
  const states: [name: string, on: string, off: string, checks: string[]][] = [
    [
      'read-only',
      'alter database deck set default_transaction_read_only = on',
      'alter database deck reset default_transaction_read_only',
      ['writer'],
    ],
    [
      'changed password',
      `alter role deck password 'changed'`,
      `alter role deck password '${primary.passwords.deck}'`,
      ['database', 'listener'],
    ],
    ['no login', 'alter role deck nologin', 'alter role deck login', ['database', 'listener']],
    ['renamed', 'alter database deck rename to aside', 'alter database aside rename to deck', ['database', 'listener']],
    [
      'no connections',
      'alter database deck allow_connections false',
      'alter database deck allow_connections true',
      ['database', 'listener'],
    ],
    [
      'connection limit',
      'alter role deck connection limit 0',
      'alter role deck connection limit -1',
      ['database', 'listener'],
    ],
  ]
  for (const [name, on, off, checks] of states) {
    if (name === 'renamed') await primary.admin.query('alter database deck allow_connections false')
    else await primary.admin.query(on)
    await disconnect(primary)
    if (name === 'renamed') {
      await until(
        async () => (await primary.admin.query(`select from pg_stat_activity where datname = 'deck'`)).rowCount === 0,
        'no session in the database',
      )
      await primary.admin.query(on)
      await primary.admin.query('alter database aside allow_connections true')
    }
    const refused = async (): Promise<void> =>
      void t.strictSame([...(await write(instance, id))], ['unavailable'], name)
    // Only a failed write shows that the database is read-only. For other states the checks must fail first: then no old session
    // can serve the write.
    if (checks[0] === 'writer') await refused()
    for (const check of checks)
      await until(async () => {
        // A session that was being opened at the change still works.
        await disconnect(primary)
        return (await failing(instance)).includes(check)
      }, `${name}: /readyz to report ${check}`)
    if (checks[0] !== 'writer') await refused()
    t.equal((await instance.request('GET', '/readyz')).status, 503)
    t.match((await instance.request('GET', '/metrics')).text, `deck_ready{check="${checks[0]}"} 0`)
    await disconnect(primary)
    await primary.admin.query(off)
    await recovered(t, instance, id)
  }
  const database = await connectTo(t, primary.url('deck', 'deck'))
  await database.query('alter schema deck rename to aside')
  t.strictSame([...(await write(instance, id))], ['unavailable'], 'without its schema')
  await database.query('alter schema aside rename to deck')
  await recovered(t, instance, id)
})

void t.test('database states: refuses requests while the primary is demoted to a standby', async (t) => {
  const { primary, proxy, instance, id } = await begin(t)
  const client = await instance.connect(alice)
  await primary.stop()
  await writeFile(join(primary.dir, 'standby.signal'), '')
  const standby = await start(t, primary)
  proxy.port = standby.port
  t.strictSame([...(await write(instance, id))], ['unavailable'])
  t.equal((await instance.request('GET', `/api/missions/${id}`, alice)).status, 503, 'a standby does not serve reads')
  t.ok((await failing(instance)).includes('database'))
  t.equal(client.closed, undefined, 'sockets stay open while there is no primary')
  await standby.admin.query('select pg_promote()')
  await recovered(t, instance, id)
  await until(() => client.closed !== undefined, 'the socket to be closed')
  const next = await instance.connect(alice)
  t.match(await next.ask({ type: 'send', topic: `missions/${id}/chat/rafael`, message: 'x' }), { type: 'ok' })
  t.equal(next.closed, undefined, 'the next socket is not closed')
})

void t.test('start: waits for a database that is down, and for a standby to be promoted', async (t) => {
  const { primary, proxy, instance } = await begin(t)
  await instance.close()
  await primary.stop()
  const lines: string[] = []
  const starting = startInstance(t, proxy.url(primary.url('deck', 'deck')), { startPatience: 60 }, (line) =>
    lines.push(line),
  )
  await until(() => lines.some((line) => line.includes('the port is closed')), 'a log line about the port')
  await writeFile(join(primary.dir, 'standby.signal'), '')
  const standby = await start(t, primary)
  proxy.port = standby.port
  await until(async () => (await standby.admin.query('select pg_is_in_recovery()')).rowCount === 1, 'the standby')
  await standby.admin.query('select pg_promote()')
  const promoted = performance.now()
  const started = await starting
  t.equal((await started.request('GET', '/readyz')).status, 200)
  t.comment(`ready ${Math.round(performance.now() - promoted)} ms after the promotion`)
})

void t.test('epoch: two servers restored from one backup have different epochs, and keep them', async (t) => {
  const { place, primary, instance, id } = await begin(t)
  const copies = []
  for (const name of ['a', 'b']) copies.push(await start(t, await makeStandby(primary, join(place, name))))
  for (const copy of copies) {
    await copy.admin.query(`alter system set primary_conninfo = ''`)
    await copy.admin.query('select pg_reload_conf()')
    await copy.admin.query('select pg_promote()')
  }
  const epochOf = async (on: Instance): Promise<unknown> =>
    (await on.request('GET', `/api/missions/${id}/chat/rafael`, alice)).json['epoch']
  const of = async (copy: Started): Promise<unknown> => {
    const both = await Promise.all([1, 2].map(() => startInstance(t, copy.url('deck', 'deck'))))
    const epochs = await Promise.all(both.map(epochOf))
    t.equal(epochs[0], epochs[1], 'the same on all instances')
    for (const one of both) await one.close()
    const again = await startInstance(t, copy.url('deck', 'deck'))
    t.equal(await epochOf(again), epochs[0], 'unchanged after a restart')
    return epochs[0]
  }
  const epochs = [await epochOf(instance), await of(copies[0] as Started), await of(copies[1] as Started)]
  t.equal(new Set(epochs).size, 3, 'all three differ')
})
