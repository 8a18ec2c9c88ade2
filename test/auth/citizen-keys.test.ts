// Keys of citizens, on two instances: an admin makes them, they work as the citizen, and a revoked one is refused everywhere.
import { decodeJwt } from 'jose'
import t from 'tap'
import { isForm, refused, time, uuid } from '../support/forms.ts'
import {
  admin,
  alice,
  closed,
  makeMission,
  rafael,
  startDeck,
  startInstance,
  until,
  type Json,
} from '../support/server.ts'

const { instance: one, database } = await startDeck(t)
const two = await startInstance(t, database.url)
const { request } = one
const keysOf = async (name: string): Promise<Json[]> =>
  (await two.request('GET', `/api/citizens/${name}/keys`, admin)).json['keys'] as Json[]

void t.test('keys: a key is a token of the citizen, shown once, and listed without its token', async (t) => {
  const mission = await makeMission(one)
  const hidden = await makeMission(one)
  const made = await request('POST', '/api/citizens/rafael/keys', admin, { missions: [mission.number], days: 3 })
  t.equal(made.status, 201)
  t.equal(made.headers.get('cache-control'), 'no-store')
  isForm(t, made.json, { id: uuid, token: /^[\w-]+\.[\w-]+\.[\w-]+$/ }, 'a new key')
  const token = String(made.json['token'])
  const { sub, role, jti, exp = 0 } = decodeJwt<Json>(token)
  t.strictSame([sub, role, jti], ['rafael', 'citizen', made.json['id']])
  t.ok(Math.abs(exp - Date.now() / 1000 - 3 * 86_400) < 60)
  const message = { message: 'by key' }
  for (const at of [one, two])
    t.match(await at.request('POST', `/api/missions/${mission.id}/chat/rafael`, token, message), {
      status: 201,
      json: { sender: 'citizen', author: 'rafael' },
    })
  refused(t, await request('POST', `/api/missions/${mission.id}/chat/sofia`, token, message), 403, 'forbidden')
  refused(t, await request('GET', `/api/missions/${hidden.id}`, token), 404, 'not_found')
  const list = await request('GET', '/api/citizens/rafael/keys', admin)
  t.notOk(list.text.includes(token.split('.')[2] ?? ''))
  const form = { id: made.json['id'], missions: [mission.number], by: 'root', created_at: time, expires_at: time }
  isForm(t, (list.json['keys'] as Json[])[0], form, 'a listed key')
})

void t.test('keys: a revoked key is refused on every instance, its sockets close, and others stay valid', async (t) => {
  const make = async (): Promise<{ id: string; token: string }> =>
    (await request('POST', '/api/citizens/emma/keys', admin, {})).json as { id: string; token: string }
  const [gone, kept] = [await make(), await make()]
  const sockets = await Promise.all([one, two].map((at) => at.connect(gone.token)))
  const stays = await two.connect(kept.token)
  t.equal((await request('DELETE', `/api/citizens/emma/keys/${gone.id}`, admin)).status, 204)
  refused(t, await request('GET', '/api/missions', gone.token), 401, 'unauthorized', 'at once')
  await until(
    async () => (await two.request('GET', '/api/missions', gone.token)).status === 401,
    'on the other instance',
  )
  for (const socket of sockets) t.equal(await closed(socket), 4401)
  t.equal((await two.request('GET', '/api/missions', kept.token)).status, 200)
  t.equal(stays.closed, undefined)
  t.strictSame(
    (await keysOf('emma')).map(({ id }) => id),
    [kept.id],
  )
  refused(t, await request('DELETE', `/api/citizens/emma/keys/${gone.id}`, admin), 404, 'not_found')
  refused(t, await request('DELETE', `/api/citizens/rafael/keys/${kept.id}`, admin), 404, 'not_found')
  const [row] = await database.query(
    'select expires_at > now() + make_interval(days => 364) as long from deck.revocations where name = $1',
    [gone.id],
  )
  t.equal(row?.['long'], true, 'the revocation is kept until the token has expired')
  const audited = await database.query(`select action, actor from deck.audit where detail ->> 'id' = $1 order by id`, [
    gone.id,
  ])
  t.strictSame(audited, [
    { action: 'key.add', actor: 'root' },
    { action: 'key.delete', actor: 'root' },
  ])
})

void t.test(
  'keys: bad input changes nothing, only admins see and change them, and a citizen has up to 100',
  async (t) => {
    const path = '/api/citizens/maya/keys'
    for (const body of [
      { days: 0 },
      { days: 366 },
      { days: 1.5 },
      { days: '3' },
      { missions: ['x'] },
      { missions: 'all' },
      { missions: 47 },
      [],
      'text',
    ])
      refused(
        t,
        await request('POST', path, admin, typeof body === 'string' ? JSON.stringify(body) : body, {
          'content-type': 'application/json',
        }),
        400,
        'bad_request',
        JSON.stringify(body),
      )
    refused(t, await request('POST', '/api/citizens/Maya/keys', admin, {}), 400, 'bad_request')
    refused(t, await request('DELETE', `${path}/x`, admin), 400, 'bad_request')
    for (const bearer of [alice, rafael]) {
      refused(t, await request('POST', path, bearer, {}), 403, 'forbidden')
      refused(t, await request('GET', path, bearer), 403, 'forbidden')
    }
    t.strictSame(await keysOf('maya'), [])
    t.equal((await request('POST', path, admin)).status, 201, 'without a body')
    await database.query(
      `insert into deck.citizen_keys (citizen, by, expires_at) select 'maya', 'x', now() + interval '1 day' from generate_series(1, 99)`,
    )
    refused(t, await request('POST', path, admin, {}), 409, 'conflict')
    t.equal((await keysOf('maya')).length, 100)
  },
)
