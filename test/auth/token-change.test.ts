// A fresh token on an open socket: rights that only the previous token had end at once. Each pair of role and claim is tested.
// Events, tasks, drafts and presence of a socket follow its current token.
import t from 'tap'
import { keepsRights, sees } from '../../src/access/policy.ts'
import type { Role } from '../../src/access/actor.ts'
import { makeTokens } from '../../src/access/tokens.ts'
import { alice, makeMission, secret, startDeck, token, until, type Client, type Json } from '../support/server.ts'

const { instance } = await startDeck(t)
const [a, b] = [await makeMission(instance), await makeMission(instance)]
const missions = [a, b]

type Claim = { role: Role; missions?: (string | number)[] | '*' }
const claims: Claim[] = (['user', 'citizen', 'admin'] as const).flatMap((role) => [
  { role },
  { role, missions: [a.id] },
  { role, missions: [b.number] },
  { role, missions: '*' as const },
])
const actor = ({ role, missions }: Claim, sub: string) => ({
  sub,
  role,
  missions: Array.isArray(missions) ? new Set(missions.map(String)) : missions,
  expires: Infinity,
  token: undefined,
  session: undefined,
})
const see = (claim: Claim, sub: string, mission: { id: string; number: number }): boolean =>
  sees(actor(claim, sub), { ...mission, assigned_to: 'alice' })

const tasksOf = (client: Client): Json[] => client.frames.filter(({ type }) => type === 'task')

void t.test('fresh token: events, tasks and drafts follow the current token', async (t) => {
  const changes = claims.flatMap((before) => claims.map((after) => ({ before, after })))
  const play = async ({ before, after }: (typeof changes)[number], n: number): Promise<void> => {
    const sub = `c${n}`
    const name = `${JSON.stringify(before)} -> ${JSON.stringify(after)}`
    const topics = missions.map(({ id }) => `missions/${id}/chat/${sub}`)
    const client = await instance.connect(await token({ sub, ...before }))
    const works = before.role === 'citizen' && (await client.ask({ type: 'work', credit: 10 }))['type'] === 'ok'
    for (const topic of topics) await client.ask({ type: 'subscribe', topic, after: 0 })
    for (const topic of topics) await client.ask({ type: 'stream', topic, key: 'draft', delta: 'written before' })
    t.match(await client.ask({ type: 'auth', token: await token({ sub, ...after }) }), { type: 'ok' })

    // A task that this socket may not get goes to this other one.
    const other = await instance.connect(await token({ sub, role: 'citizen' }))
    await other.ask({ type: 'work', credit: 10 })
    const said = client.frames.length
    for (const { id } of missions)
      await instance.request('POST', `/api/missions/${id}/chat/${sub}`, alice, { message: 'do it' })
    await until(() => tasksOf(client).length + tasksOf(other).length >= 2, `${name}: two tasks`)
    const may = missions.filter((mission) => see(after, sub, mission)).map(({ id }) => id)
    const got = client.frames.slice(said)
    const shown = got
      .filter(({ type }) => ['event', 'task', 'delta', 'presence', 'cancel'].includes(String(type)))
      .map(({ topic }) => String(topic).split('/')[1])
    t.strictSame(
      shown.filter((mission) => !may.includes(mission ?? '')),
      [],
      `${name}: no frame of a hidden mission`,
    )
    const allowed = works && after.role === 'citizen'
    if (!allowed) t.strictSame(tasksOf(client), [], `${name}: no task`)
    for (const [i, topic] of topics.entries()) {
      const seen = may.includes(missions[i]?.id ?? '')
      const answer = await client.ask({ type: 'stream', topic, key: 'draft', delta: ', and after', offset: 14 })
      const written = see(before, sub, missions[i] as (typeof missions)[number])
      if (!seen) t.match(answer, { code: 'not_found' }, `${name}: no draft`)
      else if (!written) t.match(answer, { code: 'conflict' }, `${name}: there is no draft to continue`)
      else t.match(answer, { type: 'ok' }, `${name}: the draft continues`)
    }
    client.close()
    other.close()
  }
  for (let n = 0; n < changes.length; n += 12)
    await Promise.all(changes.slice(n, n + 12).map((change, i) => play(change, n + i)))
})

void t.test('fresh token: presence shows a new role, and a socket that keeps its rights keeps its tasks', async (t) => {
  const topic = `missions/${a.id}/chat/maya`
  const watcher = await instance.connect(alice)
  await watcher.ask({ type: 'subscribe', topic, presence: true })
  const maya = await instance.connect(await token({ sub: 'maya', role: 'citizen' }))
  await maya.ask({ type: 'subscribe', topic })
  await maya.ask({ type: 'work', credit: 2 })
  const presence = (): string => JSON.stringify(watcher.frames.filter(({ type }) => type === 'presence').at(-1) ?? {})
  await until(() => presence().includes('"maya","role":"citizen"'), 'maya in the presence')
  await maya.ask({ type: 'auth', token: await token({ sub: 'maya', role: 'citizen' }, 9000) })
  await watcher.ask({ type: 'send', topic, message: 'first' })
  await until(() => tasksOf(maya).length === 1, 'a task after a fresh token')
  await maya.ask({ type: 'auth', token: await token({ sub: 'maya', role: 'admin' }) })
  await until(() => presence().includes('"maya","role":"admin"'), 'the other role')
  t.match(await maya.ask({ type: 'done', task: tasksOf(maya)[0]?.['task'] }), { code: 'forbidden' })
  await watcher.ask({ type: 'send', topic, message: 'second' })
  const next = await instance.connect(await token({ sub: 'maya', role: 'citizen' }))
  await next.ask({ type: 'work', credit: 5 })
  await until(() => tasksOf(next).length === 1, 'the second task at the next worker')
  t.equal(tasksOf(maya).length, 1)
})

void t.test('fresh token: keepsRights needs the same role and every mission of the old token', (t) => {
  const keeps = (before: Claim, after: Claim): boolean => keepsRights(actor(before, 'x'), actor(after, 'x'))
  for (const role of ['user', 'citizen', 'admin'] as const) {
    t.ok(keeps({ role }, { role }))
    t.ok(keeps({ role, missions: [1] }, { role, missions: [2, 1] }))
    t.ok(keeps({ role, missions: [1] }, { role, missions: '*' }))
  }
  t.notOk(keeps({ role: 'citizen' }, { role: 'citizen', missions: [1] }))
  t.notOk(keeps({ role: 'user', missions: [1] }, { role: 'user' }))
  t.notOk(keeps({ role: 'user', missions: '*' }, { role: 'user', missions: [1] }))
  t.notOk(keeps({ role: 'citizen' }, { role: 'admin' }))
  t.end()
})

void t.test('tokens: padded and very long ones are refused', async (t) => {
  const tokens = makeTokens({ secret })
  const good = await token({ sub: 'alice', role: 'user' })
  t.match(await tokens.verify(good), { sub: 'alice' })
  for (const pad of [' ', '\t', '\n', '\r\n', '=', '==', '.', ' '.repeat(500_000), 'A'.repeat(20_000)])
    for (const padded of [good + pad, pad + good, good.replace('.', `${pad}.`)])
      await t.rejects(tokens.verify(padded), { code: 'unauthorized' })
  const long = await token({ sub: 'alice', role: 'user', jti: 'ä'.repeat(513) })
  await t.rejects(tokens.verify(long), { code: 'unauthorized' }, 'a jti that is too long to revoke')
  const client = await instance.connect(alice)
  for (const bad of [`${good} `, good + ' '.repeat(400_000)])
    t.match(await client.ask({ type: 'auth', token: bad }), { code: 'unauthorized' })
})
