// What is heard is not believed: a login without any grant may LISTEN and NOTIFY on every channel. It ends no instance, reads no word of a
// reply in the making, and nobody sees what it forges or plays again; what it hints at costs a read.
import { randomBytes } from 'node:crypto'
import pg from 'pg'
import t from 'tap'
import { freshDatabase } from '../database.ts'
import { admin, alice, makeMission, rafael, startInstance, until, type Client } from '../helper.ts'

const database = await freshDatabase(t)
const [one, two] = [await startInstance(t, database.url), await startInstance(t, database.url)]
const { id, number } = await makeMission(one)
const topic = `missions/${id}/chat/rafael`

/** Somebody who may connect, and nothing else. */
const strange = async () => {
  const url = new URL(database.adminUrl)
  const name = `stranger_${randomBytes(4).toString('hex')}`
  const owner = new pg.Client({ connectionString: database.adminUrl })
  await owner.connect()
  await owner.query(`create role ${name} login password 'x'`)
  t.teardown(async () => {
    await owner.query(`drop role ${name}`)
    await owner.end()
  })
  url.username = name
  url.password = 'x'
  const client = new pg.Client({ connectionString: url.href })
  await client.connect()
  t.teardown(() => client.end())
  const heard: { channel: string; payload: string }[] = []
  client.on('notification', ({ channel, payload = '' }) => heard.push({ channel, payload }))
  await client.query(
    ['deck', ...Array.from({ length: 64 }, (_, n) => `deck_${n}`)].map((name) => `listen ${name}`).join(';'),
  )
  return { client, heard }
}
const { client: stranger, heard } = await strange()
const channels = ['deck', ...Array.from({ length: 64 }, (_, n) => `deck_${n}`)]
const say = (payloads: string[]): Promise<unknown> =>
  stranger.query(`select pg_notify(c, p) from unnest($1::text[]) c, unnest($2::text[]) p`, [channels, payloads])

const follow = async (on: typeof one): Promise<Client> => {
  const client = await on.connect(alice)
  await client.ask({ type: 'subscribe', topic, after: 0, presence: true })
  await client.ask({ type: 'subscribe', topic: 'missions' })
  return client
}
const followers = [await follow(one), await follow(two)]
const writer = await one.connect(rafael)
const shown = (client: Client): string[] =>
  client.frames
    .filter(({ type }) => ['typing', 'delta', 'cancel', 'presence', 'missions.changed'].includes(String(type)))
    .map((frame) => JSON.stringify(frame))

void t.test('a reply in the making can not be read by a login that listens', async (t) => {
  await writer.ask({ type: 'stream', topic, key: 'reply', delta: 'the secret of the tower ' })
  for (const follower of followers)
    await until(() => shown(follower).some((frame) => frame.includes('secret of the tower')), 'the delta')
  writer.send({ type: 'typing', topic, on: true })
  await until(() => shown(followers[1] as Client).some((frame) => frame.includes('"typing"')), 'typing')
  await until(() => heard.some(({ payload }) => payload.startsWith('=')), 'the stranger to hear it')
  t.notMatch(heard.map(({ payload }) => payload).join('\n'), /secret|tower|rafael"/)
  await t.rejects(stranger.query('select key from deck.seal_key'), { code: '42501' }, 'nor the key')
})

void t.test('what is forged, or played again, is seen by nobody, and ends nothing', async (t) => {
  await until(() => heard.length > 0, 'something to play again')
  const before = followers.map((follower) => shown(follower).length)
  const replayed = heard.map(({ payload }) => payload)
  const instanceName = '12345678'
  const forged = [
    'missions {',
    'missions {"id":null}',
    'missions ',
    `missions ${id} x`,
    'missions 00000000-0000-4000-8000-000000000000',
    'revocations',
    'echo x',
    'beat',
    `- 1e300 ${topic}`,
    `- -1 ${topic}`,
    `- NaN ${topic}`,
    `x 99999999999999999999 ${topic}`,
    ...['~', '=', '#', '!'].flatMap((mark) => [
      mark,
      `${mark}{`,
      `${mark}x {}`,
      `${mark}x null`,
      `${mark}${instanceName} {"type":"typing","topic":"${topic}","sub":"eve","role":"user","on":true}`,
      `${mark}${instanceName} {"type":"delta","topic":"${topic}","key":"reply","generation":99,"offset":0,"upto":3,"delta":"eve"}`,
      `${mark}${instanceName} {"type":"cancel","topic":"${topic}","key":"reply","by":"eve"}`,
      `${mark}${instanceName} {"type":"here","topic":"${topic}","from":"eve","n":1,"subs":[{"sub":"eve","role":"user","sockets":1}]}`,
      `${mark}${instanceName} ${topic} reply`,
      mark + randomBytes(100).toString('base64url'),
      mark + randomBytes(5000).toString('base64url'),
    ]),
  ]
  for (let n = 0; n < 3; n++) await say([...forged, ...replayed.slice(0, 40)])
  for (let n = 0; n < 20; n++)
    await say(
      Array.from(
        { length: 5 },
        (_, i) => '~=#!-m'.charAt(i) + randomBytes(1 + ((n * 997) % 3000)).toString('base64url'),
      ),
    )
  t.ok(channels.length * (3 * (forged.length + 40) + 100) > 10_000)
  // Whoever writes the draft still does.
  t.match(await writer.ask({ type: 'stream', topic, key: 'reply', delta: 'of London' }), { type: 'ok' })
  for (const follower of followers)
    await until(() => shown(follower).some((frame) => frame.includes('of London')), 'the delta')
  t.match(await writer.ask({ type: 'stream', topic, key: 'reply', done: true }), {
    message: { message: 'the secret of the tower of London' },
  })
  for (const [n, follower] of followers.entries()) {
    t.match(await follower.ask({ type: 'ping' }), { type: 'ok' })
    const news = shown(follower).slice(before[n])
    t.notMatch(news.join('\n'), /eve/, 'nothing forged')
    t.equal(
      news.filter((frame) => frame.includes('"typing"') && frame.includes('true')).length,
      0,
      'nothing played again',
    )
    t.equal(follower.closed, undefined)
  }
  for (const on of [one, two]) t.equal((await on.request('GET', '/healthz')).status, 200)
  t.equal((await one.request('GET', `/api/${topic}?limit=1`, alice)).json['last_seq'], 1)
})

void t.test('the list of missions tells whoever may see one, or could until now, by what is read', async (t) => {
  const other = await makeMission(one)
  for (const follower of followers)
    await until(() => shown(follower).some((frame) => frame.includes(other.id)), 'the new mission')
  const count = (): number[] =>
    followers.map((follower) => shown(follower).filter((frame) => frame.includes(other.id)).length)
  const before = count()
  await one.request('PATCH', `/api/missions/${other.id}`, admin, { assigned_to: 'bob' })
  await until(() => count().every((n, i) => n > (before[i] ?? 0)), 'whoever loses it is told')
  const after = count()
  await one.request('PATCH', `/api/missions/${other.id}`, admin, { title: 'not yours' })
  await one.request('PATCH', `/api/missions/${other.id}`, admin, { title: 'not yours again' })
  await one.request('PATCH', `/api/missions/${other.id}`, admin, { title: 'not yours at all' })
  await one.request('PATCH', `/api/missions/${id}`, admin, { title: 'yours' })
  await until(
    () => shown(followers[1] as Client).filter((frame) => frame.includes(`"${id}"`)).length > 0,
    'one that is seen',
  )
  t.ok(
    count().every((n, i) => n <= (after[i] ?? 0) + 1),
    'and soon no more',
  )
  const gone = await makeMission(one)
  await until(() => shown(followers[0] as Client).some((frame) => frame.includes(gone.id)), 'it')
  const told = shown(followers[0] as Client).filter((frame) => frame.includes(gone.id)).length
  await one.request('DELETE', `/api/missions/${gone.id}`, admin)
  await until(
    () => shown(followers[0] as Client).filter((frame) => frame.includes(gone.id)).length > told,
    'that it is deleted',
  )
  t.ok(number > 0)
})
