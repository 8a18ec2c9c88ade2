// requests and answer against a server, and deck.requests of the client: their output, exit codes and events.
import t from 'tap'
import { connect } from '../../src/client/index.ts'
import { deck, start } from '../support/cli.ts'
import { alice, makeMission, rafael, startDeck, until, type Json } from '../support/server.ts'

void t.test('requests, answer: a request is listed, followed and answered once, from the command line', async (t) => {
  const { instance } = await startDeck(t)
  const { number } = await makeMission(instance)
  const mission = String(number)
  const env = { DECK_URL: instance.url, DECK_TOKEN: alice }
  const path = `/api/missions/${mission}/requests`
  const make = async (body: Json): Promise<string> =>
    String((await instance.request('POST', path, rafael, body)).json['id'])
  t.match(await deck(t, ['requests', mission], env), { code: 0, out: '', err: /no open requests/ })
  const deploy = await make({ kind: 'approve', title: 'Deploy?\u001b[31m', body: 'To production.' })
  const colour = await make({ kind: 'choose', title: 'Which colour?', options: ['red', 'blue'] })
  const list = await deck(t, ['requests', mission], env)
  t.match(list, { code: 0, out: new RegExp(`^${deploy} {2}rafael {2}approve[^]*To production[^]*${colour}[^]*- blue`) })
  t.notOk(list.out.includes('\x1b'), 'control characters are not printed')
  const follows = start(t, ['requests', mission, '--state', 'all', '--follow', '--json'], env)
  await until(() => follows.out().includes(colour), 'the list')

  t.match(await deck(t, ['answer', mission, deploy, 'perhaps'], env), { code: 2 })
  t.match(await deck(t, ['answer', mission, colour, 'green'], env), { code: 1, err: /answer/ })
  t.match(await deck(t, ['answer', mission, deploy, 'Yes'], env), { code: 0, out: /^answered: Deploy/ })
  t.match(await deck(t, ['answer', mission, deploy, 'no', '--json'], env), { code: 1, err: /conflict/ })
  t.match(await deck(t, ['answer', mission, colour, 'blue'], env), { code: 0 })
  await until(() => follows.out().split('"state":"answered"').length === 3, 'both answers')
  follows.child.kill('SIGINT')
  t.equal((await follows.ended).code, 130)
  const all = await deck(t, ['requests', mission, '--state', 'answered', '--json'], env)
  t.match(
    all.out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Json),
    [
      { id: deploy, answer: true },
      { id: colour, answer: 'blue' },
    ],
  )
  t.match(await deck(t, ['requests', mission, '--state', 'done'], env), { code: 2 })
})

void t.test('requests: without a mission it lists the open ones of all visible missions', async (t) => {
  const { instance } = await startDeck(t)
  const env = { DECK_URL: instance.url, DECK_TOKEN: alice }
  t.match(await deck(t, ['requests'], env), { code: 0, out: '', err: /no open requests/ })
  const [first, second, hidden] = [
    await makeMission(instance),
    await makeMission(instance),
    await makeMission(instance, { assigned_to: 'carol' }),
  ]
  for (const { id } of [first, second, hidden])
    await instance.request('POST', `/api/missions/${id}/requests`, rafael, { kind: 'approve', title: 'Deploy?' })
  const { code, out } = await deck(t, ['requests'], env)
  t.equal(code, 0)
  t.strictSame(
    [...out.matchAll(/^([0-9a-f-]{36}) {2}[0-9a-f-]{36} {2}rafael {2}approve/gm)].map(([, mission]) => mission),
    [first.id, second.id],
  )
  t.match(await deck(t, ['requests', '--state', 'answered'], env), { code: 2, err: /need a mission/ })
  t.match(await deck(t, ['requests', '--follow'], env), { code: 2, err: /need a mission/ })
  const client = connect({ url: instance.url, token: alice })
  t.teardown(() => client.close())
  t.match(await client.openRequests({ limit: 1 }), { requests: [{ mission_id: first.id }], next: /./ })
})

void t.test('client: requests are made, waited for, answered, withdrawn and followed', async (t) => {
  const { instance } = await startDeck(t)
  const { id } = await makeMission(instance)
  const [citizen, person] = [rafael, alice].map((token) => connect({ url: instance.url, token }))
  t.teardown(() => [citizen, person].forEach((one) => one?.close()))
  if (!citizen || !person) return
  const seen: string[] = []
  const feed = person.requests(id).follow()
  await feed.ready
  void (async () => {
    for await (const event of feed) seen.push(event.event)
  })().catch(() => {})
  const made = await citizen.requests(id).make({ kind: 'text', title: 'Which name?' })
  const waiting = citizen.requests(id).get(made.id, { wait: 50 })
  await person.requests(id).answer(made.id, 'deck')
  t.match(await waiting, { state: 'answered', answer: 'deck', answered_by: 'alice' })
  await t.rejects(person.requests(id).answer(made.id, 'again'), { code: 'conflict' })
  const other = await citizen.requests(id).make({ kind: 'approve', title: 'Deploy?' })
  t.match(await citizen.requests(id).withdraw(other.id), { state: 'withdrawn' })
  t.match(await person.requests(id).list({ state: 'withdrawn' }), { requests: [{ id: other.id }], next: null })
  const events = ['request.created', 'request.answered', 'request.created', 'request.withdrawn']
  await until(() => seen.length === 4, 'the events')
  t.strictSame(seen, events)
})
