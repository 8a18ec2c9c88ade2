// Questions in the page: nobody waits in silence. Their states are live on two instances; retry, cancel, what a reply answers, and the
// counts in the title.
import t, { type Test } from 'tap'
import type { Page } from 'playwright-core'
import { connect, type Handler } from '../../src/client/index.ts'
import { examine } from './axe.ts'
import { browserTests } from './browser.ts'
import { admin, alice, makeMission, rafael, startDeck, startInstance, token, until } from '../support/server.ts'

const { instance: one, database } = await startDeck(t)
const two = await startInstance(t, database.url)
const { request } = one
const { test, openUrl } = await browserTests(t, one)

const open = (t: Test, url: string, path: string, options = {}): Promise<Page> =>
  openUrl(t, `${url}/deck/missions/${path}#token=${alice}`, options)
const write = async (page: Page, text: string): Promise<void> => {
  await page.locator('#composer').fill(text)
  await page.keyboard.press('Enter')
  await page.locator('.track .row', { hasText: text }).waitFor()
}
const rowOf = (page: Page, text: string) => page.locator('.track .row', { hasText: text })
const stateOf = (page: Page, text: string) => rowOf(page, text).locator('.question')
const crewman = (page: Page, name: string) => page.locator('.crewman', { hasText: name })
/** Says when something last worked for the citizen. */
const lastSeen = (citizen: string, ago: string) =>
  database.query(
    `insert into deck.inboxes (citizen, seen) values ($1, clock_timestamp() - $2::interval)
     on conflict (citizen) do update set seen = excluded.seen`,
    [citizen, ago],
  )
const startAgent = (t: Test, url: string, sub: string, handler: Handler, bearer = rafael) => {
  const deck = connect({ url, token: bearer })
  deck.on('error', () => {})
  t.teardown(() => deck.close())
  void deck.citizen(sub).answer(handler)
  return deck
}
const ask = async (mission: string, citizen: string, message: string): Promise<string> => {
  const { json } = await request('POST', `/api/missions/${mission}/chat/${citizen}`, alice, { message })
  return String(json['id'])
}
/** Makes a question's fifth attempt end without a result, as a SQL write of the tables shows it. */
const giveUp = async (id: string): Promise<void> => {
  const given = async (): Promise<boolean> => {
    const rows = await database.query(
      `update deck.tasks set attempt = 5, dead = true, holder = null, lease_until = null, since = clock_timestamp()
       where id = $1 returning id`,
      [id],
    )
    return rows.length === 1
  }
  await until(given, 'the question to have a task')
}
const taskOf = async (id: string) => (await database.query('select * from deck.tasks where id = $1', [id]))[0]

test('questions: with no agent the page says that nobody listens and since when; one that starts later answers, live on two instances', async (t) => {
  await lastSeen('rafael', '2 hours')
  const { number } = await makeMission(one, { title: 'Nobody is there' })
  const pages = await Promise.all([one, two].map(({ url }) => open(t, url, `${number}/rafael`)))
  const [a, b] = pages as [Page, Page]
  for (const page of pages) await page.getByText(/^No messages with Rafael/).waitFor()
  await crewman(a, 'Rafael').locator('.dot.away').waitFor()
  t.match(await crewman(a, 'Rafael').innerText(), /last seen 2 h ago/)
  t.match(await crewman(a, 'Emma').textContent(), /never connected/)
  const begin = performance.now()
  await write(a, 'Is somebody there?')
  for (const page of pages)
    await stateOf(page, 'somebody').getByText('waiting: Rafael is not connected (last seen 2 h ago)').waitFor()
  t.comment(`said on both pages after ${Math.round(performance.now() - begin)} ms`)

  let finish = (): void => {}
  const held = new Promise<void>((resolve) => (finish = resolve))
  startAgent(t, two.url, 'rafael', async () => {
    await held
    return 'Now I am'
  })
  for (const page of pages) {
    await stateOf(page, 'somebody')
      .getByText(/^working for \d+ s/)
      .waitFor()
    await crewman(page, 'Rafael').locator('.dot.listening').waitFor()
  }
  const seconds = async (page: Page): Promise<number> =>
    Number(/\d+/.exec((await stateOf(page, 'somebody').textContent()) ?? '')?.[0])
  const high = async (page: Page): Promise<number> => (await rowOf(page, 'somebody').boundingBox())?.height ?? 0
  const [first, height] = [await seconds(a), await high(a)]
  await until(async () => (await seconds(a)) > first, 'the time to count up')
  t.equal(await high(a), height, 'counting moves nothing')
  finish()
  for (const page of pages) {
    await rowOf(page, 'Now I am').waitFor()
    await stateOf(page, 'somebody').waitFor({ state: 'detached' })
    t.equal(await page.locator('.quote').count(), 0, 'the message above needs no quote')
  }
  // After the answer is read again from the server, too.
  await b.reload()
  await rowOf(b, 'Now I am').waitFor()
  t.equal(await b.locator('.question').count(), 0)
})

test('questions: a citizen that listens but has not taken the question is waited for; a lease that ends is no longer counted', async (t) => {
  const { id, number } = await makeMission(one, { title: 'Busy' })
  await lastSeen('sofia', '0 seconds')
  const page = await open(t, one.url, `${number}/sofia`)
  await crewman(page, 'Sofia').locator('.dot.listening').waitFor()
  const question = await ask(id, 'sofia', 'When is it your turn?')
  await stateOf(page, 'your turn').getByText('waiting for Sofia').waitFor()
  await database.query(
    `insert into deck.tasks (id, citizen, mission_id, seq, at)
     select id, citizen, mission_id, seq, at from chat_messages where id = $1 on conflict do nothing`,
    [question],
  )
  await database.query(
    `update deck.tasks set holder = $1, attempt = 2, since = clock_timestamp(), lease_until = clock_timestamp() + interval '4 seconds'
     where id = $1`,
    [question],
  )
  await stateOf(page, 'your turn')
    .getByText(/^working for \d+ s, attempt 2/)
    .waitFor()
  await stateOf(page, 'your turn').getByText('waiting for Sofia to try again').waitFor()
})

test('questions: after five attempts the page says so and the title counts it; Try again by keyboard lets an agent answer', async (t) => {
  const { id, number } = await makeMission(one, { title: 'Five times', assigned_to: 'fiona' })
  const fiona = await token({ sub: 'fiona', role: 'user' })
  const question = await request('POST', `/api/missions/${id}/chat/maya`, fiona, { message: 'Will you fail?' })
  const maya = await token({ sub: 'maya', role: 'citizen' })
  const socket = await two.connect(maya)
  await socket.ask({ type: 'work', credit: 1 })
  await until(async () => (await taskOf(String(question.json['id']))) !== undefined, 'the task')
  socket.socket.close()
  const page = await openUrl(t, `${one.url}/deck/missions/${number}/maya#token=${fiona}`)
  const other = await openUrl(t, `${two.url}/deck/missions/${number}/emma#token=${fiona}`)
  await rowOf(page, 'Will you fail?').waitFor()
  await other.getByText(/^No messages with Emma/).waitFor()
  const icon = (page: Page) => page.evaluate<string>(`document.querySelector('link[rel=icon]').getAttribute('href')`)
  const plain = await icon(page)
  t.notMatch(await page.title(), /^\(/)
  await giveUp(String(question.json['id']))
  const state = stateOf(page, 'Will you fail?')
  await state.getByText('gave up after five attempts').waitFor()
  for (const each of [page, other]) {
    await until(async () => (await each.title()).startsWith('(1) '), 'the title to count the failed question')
    t.match(await icon(each), /^data:image\/svg/)
    await each.locator('.mission .tally.failed').waitFor()
    await crewman(each, 'Maya').locator('.tally.failed').waitFor()
  }
  await state.getByRole('button', { name: 'Try again' }).focus()
  await page.keyboard.press('Enter')
  await stateOf(page, 'Will you fail?')
    .getByText(/^waiting/)
    .waitFor()
  for (const each of [page, other]) {
    await until(async () => !(await each.title()).startsWith('('), 'the title to count nothing')
    t.match(await icon(each), plain)
  }
  t.match(await taskOf(String(question.json['id'])), { attempt: 0, dead: false })
  startAgent(t, one.url, 'maya', () => 'Not this time', maya)
  await rowOf(page, 'Not this time').waitFor()
  await until(async () => (await page.locator('.question').count()) === 0, 'the question to be answered')
  // A message is unread while no page of the user shows its chat.
  await crewman(page, 'Emma').click()
  await page.getByText(/^No messages with Emma/).waitFor()
  await request('POST', `/api/missions/${id}/chat/maya`, maya, { message: 'One more thing' })
  for (const each of [page, other])
    await until(async () => (await each.title()).startsWith('(1) '), 'the unread message in the title')
})

test('questions: Cancel closes a waiting question, and asks the writer of a working one to stop', async (t) => {
  const inna = await token({ sub: 'inna', role: 'citizen' })
  const { number } = await makeMission(one, { title: 'Never mind' })
  const page = await open(t, one.url, `${number}/inna`)
  const other = await open(t, two.url, `${number}/inna`)
  await page.getByText(/^No messages with Inna/).waitFor()
  await other.getByText(/^No messages with Inna/).waitFor()
  await write(page, 'the first question')
  await stateOf(page, 'the first question').getByRole('button', { name: 'Cancel' }).click()
  for (const each of [page, other])
    await stateOf(each, 'the first question').getByText('closed without a reply').waitFor()
  t.equal(await stateOf(page, 'the first question').getByRole('button').count(), 0)
  let stopped = false
  startAgent(
    t,
    two.url,
    'inna',
    async (_question, reply) => {
      await new Promise((resolve) => reply.signal.addEventListener('abort', resolve))
      stopped = true
      await reply.abort()
    },
    inna,
  )
  await write(page, 'the second question')
  await stateOf(page, 'the second question')
    .getByText(/^working for/)
    .waitFor()
  await stateOf(page, 'the second question').getByRole('button', { name: 'Cancel' }).click()
  await until(() => stopped, 'the writer to be asked')
  for (const each of [page, other])
    await stateOf(each, 'the second question').getByText('closed without a reply').waitFor()
})

test('questions: what became of them while the page was offline is read again', async (t) => {
  const server = await startInstance(t, database.url)
  const { port } = new URL(server.url)
  const { id, number } = await makeMission(one, { title: 'Away for a while' })
  const page = await open(t, server.url, `${number}/emma`)
  await page.getByText(/^No messages with Emma/).waitFor()
  const question = await ask(id, 'emma', 'Who is away?')
  await stateOf(page, 'Who is away?')
    .getByText(/^waiting/)
    .waitFor()
  await server.close()
  await page.locator('.light', { hasText: 'offline' }).filter({ visible: true }).waitFor()
  const { status } = await request('POST', `/api/missions/${id}/chat/emma/questions/${question}/cancel`, alice)
  t.equal(status, 200)
  await startInstance(t, database.url, { port: Number(port) })
  await page.locator('.light', { hasText: 'live' }).filter({ visible: true }).waitFor({ timeout: 20_000 })
  await stateOf(page, 'Who is away?').getByText('closed without a reply').waitFor()
  await until(async () => (await crewman(page, 'Emma').locator('.tally').count()) === 0, 'nothing to wait')
})

test('questions: a draft that its writer abandons says so until the work goes on', async (t) => {
  const { number, id } = await makeMission(one, { title: 'Half an answer' })
  const page = await open(t, one.url, `${number}/rafael`)
  await page.getByText(/^No messages with Rafael/).waitFor()
  const deck = connect({ url: two.url, token: rafael })
  t.teardown(() => deck.close())
  const half = deck.chat(id, 'rafael').stream('half')
  half.write('The answer is about to')
  await page.locator('[data-draft]', { hasText: 'about to' }).waitFor()
  await half.abort()
  await page.locator('.stopped', { hasText: 'Rafael stopped writing' }).waitFor()
  t.equal(await page.locator('[data-draft]').count(), 0)
  t.match(await page.locator('.stopped').innerText(), /The answer is about to/)
  const whole = deck.chat(id, 'rafael').stream('whole')
  whole.write('The answer is 42')
  await page.locator('[data-draft]', { hasText: 'is 42' }).waitFor()
  t.equal(await page.locator('.stopped').count(), 0)
  await whole.done()
  await rowOf(page, 'The answer is 42').waitFor()
  t.equal(await page.locator('.stopped, [data-draft]').count(), 0)
})

test('replies: a reply shows what it answers, and leads there by click and by keyboard, also where that is far above', async (t) => {
  const { id, number } = await makeMission(one, { title: 'Far apart' })
  const say = async (sender: string, text: string, replyTo?: string): Promise<string> => {
    const [row] = await database.query(
      `insert into chat_messages (mission_id, citizen, sender, author, message, in_reply_to)
       values ($1, 'emma', $2, $2, $3, $4) returning id`,
      [id, sender, text, replyTo],
    )
    return String(row?.['id'])
  }
  const far = await say('user', `the far\nquestion ${'and more words '.repeat(30)}`)
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message)
     select $1, 'emma', 'citizen', 'in between ' || n from generate_series(1, 400) n`,
    [id],
  )
  const near = await say('user', 'the near question')
  const gone = await say('citizen', 'will be deleted')
  await say('citizen', 'answers the far one', far)
  await say('citizen', 'answers the near one', near)
  await say('citizen', 'answers nothing that is left', gone)
  const last = await say('user', 'the last question')
  await say('citizen', 'answers the one directly above', last)
  await database.query('delete from chat_messages where id = $1', [gone])
  await until(
    async () =>
      (await database.query('select 1 from chat_messages where mission_id = $1 and seq is null', [id])).length === 0,
    'all to be numbered',
  )
  const socket = await one.connect(alice)
  await socket.ask({ type: 'read', topic: `missions/${id}/chat/emma`, seq: 1000 })
  const page = await open(t, one.url, `${number}/emma`)
  const quote = (text: string) => rowOf(page, text).locator('.quote')
  await quote('answers the far one')
    .getByText(/the far question/)
    .waitFor()
  t.match(await quote('answers the far one').innerText(), /^user the far question and more words/)
  t.ok(((await quote('answers the far one').boundingBox())?.height ?? 99) < 30, 'one line')
  t.match(await quote('answers the near one').innerText(), /^user the near question/)
  t.equal(await quote('answers nothing that is left').count(), 0)
  t.equal(await quote('answers the one directly above').count(), 0)
  await quote('answers the far one').click()
  await page.locator('.row.found', { hasText: 'the far' }).waitFor()
  await page.keyboard.press('Escape')
  await page.keyboard.press('n')
  await quote('answers the near one').focus()
  await page.keyboard.press('Enter')
  await page.locator('.row.found', { hasText: 'the near question' }).waitFor()
})

test('questions: a page of history asks for them once, one without user messages never, and the registry is polled only while it is visible', async (t) => {
  const { id, number } = await makeMission(one, { title: 'Much said' })
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, author, message)
     select $1, c, case when c = 'emma' and n % 10 = 0 then 'user' else 'citizen' end, 'alice', 'line ' || n
     from unnest(array['emma', 'zoe']) c, generate_series(1, 600) n`,
    [id],
  )
  const page = await open(t, one.url, `${number}/emma`)
  await page.clock.install()
  const asked: string[] = []
  page.on('request', (one) => void (one.url().includes('/api/') && asked.push(one.url())))
  const of = (part: RegExp): number => asked.filter((url) => part.test(url)).length
  await page.reload()
  await rowOf(page, 'line 600').waitFor()
  await page.locator('.scroll').focus()
  for (const [key, text] of [
    ['End', 'line 600'],
    ['Home', 'line 1'],
    ['End', 'line 600'],
  ] as const) {
    await page.keyboard.press(key)
    await page.locator('.track .markdown', { hasText: new RegExp(`^${text}$`) }).waitFor()
  }
  await until(() => of(/emma\/questions/) > 0, 'the questions to be read')
  t.ok(of(/emma\/questions/) <= of(/emma\?/), `${of(/emma\/questions/)} for ${of(/emma\?/)} pages of history`)
  await crewman(page, 'Zoe').click()
  await rowOf(page, 'line 600').waitFor()
  t.equal(of(/zoe\/questions/), 0)
  const before = of(/citizens/)
  t.equal(before, 1)
  await page.clock.runFor(31_000)
  await until(() => of(/citizens/) === before + 1, 'the registry to be read again')
  await request('PUT', '/api/citizens/nina', admin, { title: 'News', about: 'Writes about what is new', position: 0 })
  await page.clock.runFor(31_000)
  await crewman(page, 'Nina').waitFor()
  t.equal(of(/citizens/), before + 2)
  t.match(await crewman(page, 'Nina').innerText(), /News/)
  t.match(await crewman(page, 'Nina').getAttribute('title'), /Writes about what is new/)
  t.match(await page.locator('.crewman .name').first().innerText(), 'Nina', 'by position')
  await request('DELETE', '/api/citizens/nina', admin)
})

for (const [colorScheme, width, height] of [
  ['light', 1280, 800],
  ['dark', 360, 740],
] as const)
  test(`questions: axe finds no violation in any state, ${colorScheme}, ${width} px`, async (t) => {
    const { id, number } = await makeMission(one, { title: 'All states' })
    const states = ['waiting', 'working', 'failed', 'closed', 'answered']
    const ids: string[] = []
    for (const state of states) ids.push(await ask(id, 'rafael', `a question that is ${state}`))
    await database.query(
      `insert into deck.tasks (id, citizen, mission_id, seq, at)
       select id, citizen, mission_id, seq, at from chat_messages where id = any ($1) on conflict do nothing`,
      [ids],
    )
    const [, working, failed, closed, answered] = ids
    await database.query(
      `update deck.tasks set attempt = 2, holder = id, lease_until = clock_timestamp() + interval '1 hour' where id = $1`,
      [working],
    )
    await database.query('update deck.tasks set attempt = 5, dead = true, lease_until = null where id = $1', [failed])
    await database.query('update deck.tasks set ended = clock_timestamp(), lease_until = null where id = $1', [closed])
    await database.query(
      `insert into chat_messages (mission_id, citizen, sender, message, in_reply_to)
       select $1, 'rafael', 'citizen', 'the answer', x from unnest(array[$2, $3]::uuid[]) x`,
      [id, answered, ids[0]],
    )
    const page = await open(t, one.url, `${number}/rafael`, { colorScheme, viewport: { width, height } })
    for (const state of ['working', 'failed', 'closed']) await page.locator(`.question[data-state=${state}]`).waitFor()
    await page.locator('.quote').first().waitFor()
    t.same(await examine(page), [])
    t.ok((await page.evaluate<number>('document.documentElement.scrollWidth')) <= width)
  })
