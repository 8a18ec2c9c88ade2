// The state of the page: empty chats, unread counts, a lost connection, and what is kept while a different view is open.
import { connect, createServer, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import type { Page } from 'playwright-core'
import { browserTests, openPage } from './browser.ts'
import { admin, alice, makeMission, startDeck, token, until } from '../support/server.ts'

const { instance, database } = await startDeck(t)
const { request } = instance
const { browser, test, open } = await browserTests(t, instance)
const frames = (page: Page, count: number) =>
  page.evaluate(`new Promise((done) => { let left = ${count}
    const next = () => (left-- > 0 ? requestAnimationFrame(next) : done())
    next() })`)
/** Collects the API requests that a page makes from now on. */
const requestsOf = (page: Page): string[] => {
  const asked: string[] = []
  page.on('request', (one) => void (one.url().includes('/api/') && asked.push(one.url())))
  return asked
}

test('chat: an idle chat without messages makes no requests, also beside each panel', async (t) => {
  const { id, number } = await makeMission(instance)
  for (let n = 0; n < 30; n++)
    await request('POST', `/api/missions/${id}/chat/inna`, admin, { message: `will be cleared ${n}` })
  await request('DELETE', `/api/missions/${id}/chat/inna`, admin)
  const page = await open(t, `${number}/maya`)
  const asked = requestsOf(page)
  for (const path of [
    'emma',
    'inna',
    'sofia/checklist',
    'sofia/tests',
    'sofia/code',
    'sofia/search',
    'sofia/timeline',
  ]) {
    await page.goto(`${instance.url}/deck/missions/${number}/${path}`)
    await page.getByText(/^No messages with/).waitFor()
    await page.locator('.light', { hasText: 'live' }).filter({ visible: true }).waitFor()
    let before = -1
    const settled = async (): Promise<boolean> => {
      before = asked.length
      await frames(page, 60)
      return asked.length === before
    }
    // The timeline polls until its horizon is later than the subscription to every topic.
    await until(settled, `${path} to ask for nothing`)
    await frames(page, 60)
    t.ok(asked.length - before <= 1, `${path}: ${asked.length - before} requests`)
    if (path.includes('/')) continue
    await request('POST', `/api/missions/${id}/chat/${path}`, admin, { message: 'the first message' })
    await page.locator('.track .row', { hasText: 'the first message' }).waitFor()
    t.ok(asked.length - before <= 1, `${path}: the first message arrives without a request`)
  }
})

/** Inserts messages with a text and their number, from 1 on, by SQL. */
const insertMessages = async (mission: string, citizen: string, author: string, count: number): Promise<void> => {
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, author, message)
     select $1, $2, 'user', $3, 'message ' || n || repeat(' and so on', n % 9) from generate_series(1, $4::int) n`,
    [mission, citizen, author, count],
  )
}
/** The missions' badges, by mission number; missions without a badge are left out. */
const badges = async (page: Page): Promise<Record<string, string>> =>
  page.evaluate<Record<string, string>>(
    `Object.fromEntries([...document.querySelectorAll('.mission:has(.badge)')].map((item) =>
      [item.querySelector('.number').textContent.slice(1), item.querySelector('.badge').textContent]))`,
  )
/** The expected badges by SQL: the number of messages of other authors after the read position. */
const unreadOf = async (sub: string): Promise<Record<string, string>> => {
  const rows = await database.query(
    `select m.number, sum(c.unread) as unread from missions m
     join lateral (
       select least(1000, count(*)) as unread from chat_messages x
       where x.mission_id = m.id and x.author is distinct from $1 and x.seq > coalesce((
         select r.seq from deck.reads r where r.mission_id = m.id and r.citizen = x.citizen and r.sub = $1), 0)
       group by x.citizen) c on true
     where m.assigned_to = $1 group by m.number`,
    [sub],
  )
  return Object.fromEntries(
    rows.map((row): [string, string] => [
      String(row['number']),
      Number(row['unread']) < 1000 ? String(row['unread']) : '999+',
    ]),
  )
}
const same = async (page: Page, sub: string, what: string): Promise<void> => {
  // (Both change: the page marks as read what it shows.)
  await until(async () => JSON.stringify(await badges(page)) === JSON.stringify(await unreadOf(sub)), what)
}

test('badges: with 60 missions each badge equals the SQL count, also live, and the first message waits for no badge', async (t) => {
  const sub = 'many'
  const bearer = await token({ sub, role: 'user' })
  const missions: { id: string; number: number }[] = []
  for (let n = 0; n < 60; n++) missions.push(await makeMission(instance, { assigned_to: sub, title: `Mission ${n}` }))
  const [first, second, third] = missions as [(typeof missions)[0], (typeof missions)[0], (typeof missions)[0]]
  for (const [n, { id }] of missions.entries()) {
    if (n % 4 === 3) continue
    await insertMessages(id, 'rafael', 'root', n + 1)
    await insertMessages(id, 'zoe', sub, 3)
    if (n % 5 === 0) await insertMessages(id, 'emma', 'root', 2)
  }
  await insertMessages(second.id, 'emma', 'root', 1200)
  const last = missions.at(-1) as (typeof missions)[0]
  const socket = await instance.connect(bearer)
  await socket.ask({ type: 'read', topic: `missions/${first.id}/chat/rafael`, seq: 1 })
  await socket.ask({ type: 'read', topic: `missions/${missions[20]?.id}/chat/rafael`, seq: 7 })
  if (!browser) return

  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } })
  t.teardown(() => context.close())
  const page = await context.newPage()
  await page.goto(`${instance.url}/`)
  const asked = requestsOf(page)
  await page.goto(`${instance.url}/deck/missions/${last.number}/emma#token=${bearer}`)
  // (Until the new document is there, the old one may still ask.)
  page.once('framenavigated', () => (asked.length = 0))
  await page.reload()
  await page.getByText(/^No messages with Emma/).waitFor()
  t.ok(asked.length <= 3, `${asked.length} requests: ${asked.join(' ')}`)
  await same(page, sub, 'the badges')

  // New messages count, also in the oldest missions. The user's own messages from elsewhere do not.
  await request('POST', `/api/missions/${third.id}/chat/sofia`, admin, { message: 'a new one' })
  await request('POST', `/api/missions/${first.id}/chat/rafael`, admin, { message: 'a new one' })
  await same(page, sub, 'the badges after new messages')
  await request('POST', `/api/missions/${first.id}/chat/rafael`, bearer, { message: 'my own, from elsewhere' })
  await request('POST', `/api/missions/${third.id}/chat/sofia`, admin, { message: 'another' })
  await same(page, sub, 'the badges after a message of the user')

  // Read in a different client, partly and completely.
  await socket.ask({ type: 'read', topic: `missions/${second.id}/chat/emma`, seq: 700 })
  await same(page, sub, 'the badges after a part was read elsewhere')
  await socket.ask({ type: 'read', topic: `missions/${second.id}/chat/emma`, seq: 1200 })
  await same(page, sub, 'the badges after all was read elsewhere')

  // When a chat is opened here, its badge disappears and stays away.
  const mission = (number: number) => page.locator(`.mission:has(.number:text-is("#${number}"))`)
  await mission(third.number).click()
  await page.locator('.track .row', { hasText: 'message 3' }).waitFor()
  await page.locator('.crewman', { hasText: 'Sofia' }).click()
  await page.locator('.track .row', { hasText: 'another' }).waitFor()
  await page.locator('.crewman', { hasText: 'Rafael' }).click()
  await mission(first.number).click()
  await page.locator('.track .row', { hasText: 'my own, from elsewhere' }).waitFor()
  await same(page, sub, 'the badges after three chats were read')
  t.notOk(String(third.number) in (await badges(page)))
})

test('chat: opens at the first unread message, under a line, if nothing or 1,200 messages are unread; own messages do not count', async (t) => {
  const { id, number } = await makeMission(instance)
  await insertMessages(id, 'rafael', 'root', 1200)
  await insertMessages(id, 'inna', 'root', 300)
  await insertMessages(id, 'emma', 'alice', 40)
  await insertMessages(id, 'emma', 'root', 40)
  const socket = await instance.connect(alice)
  const read = async (citizen: string): Promise<number> => {
    const [row] = await database.query(
      'select seq from deck.reads where mission_id = $1 and citizen = $2 and sub = $3',
      [id, citizen, 'alice'],
    )
    return Number(row?.['seq'] ?? 0)
  }
  await socket.ask({ type: 'read', topic: `missions/${id}/chat/inna`, seq: 100 })
  /** Waits until the line is above this seq, and in the window. */
  const line = async (page: Page, seq: number): Promise<void> => {
    await until(
      () =>
        page.evaluate<boolean>(
          `(() => { const box = document.querySelector(".scroll")?.getBoundingClientRect(); if (!box) return false
            const rows = [...document.querySelectorAll('.row:has(.new)')]
            const at = rows[0]?.getBoundingClientRect()
            return rows.length === 1 && Number(rows[0].dataset.seq) === ${seq} && at.top >= box.top - 1 && at.top < box.bottom })()`,
        ),
      `the line above ${seq}`,
    )
  }
  const page = await open(t, `${number}/rafael`)
  await line(page, 1)
  await until(async () => (await read('rafael')) > 0, 'the visible messages to be read')
  t.ok((await read('rafael')) < 60, `${await read('rafael')} is read`)
  for (const [citizen, seq] of [
    ['inna', 101],
    ['emma', 41],
  ] as const) {
    await page.locator('.crewman', { hasText: new RegExp(citizen, 'i') }).click()
    await line(page, seq)
    await until(async () => (await read(citizen)) >= seq, 'the visible messages to be read')
    t.ok((await read(citizen)) < seq + 60, `${await read(citizen)} is read`)
  }
  // At the end nothing is unread. On return the chat is at the end, and messages that arrived meanwhile are below a line.
  await page.keyboard.press('Escape')
  await page.keyboard.press('n')
  await page.locator('.track .row[data-seq="80"]').waitFor()
  await until(async () => (await read('emma')) === 80, 'all messages to be read')
  await page.locator('.crewman', { hasText: 'Maya' }).click()
  await page.getByText(/^No messages with Maya/).waitFor()
  await request('POST', `/api/missions/${id}/chat/emma`, alice, { message: 'my own' })
  await request('POST', `/api/missions/${id}/chat/emma`, admin, { message: 'it went on' })
  await page.locator('.crewman', { hasText: 'Emma' }).locator('.badge', { hasText: '1' }).waitFor()
  await page.locator('.crewman', { hasText: 'Emma' }).click()
  await line(page, 82)
  await page.locator('.crewman', { hasText: 'Emma' }).locator('.badge').waitFor({ state: 'detached' })
  await page.locator('.crewman', { hasText: 'Maya' }).click()
  await page.locator('.crewman', { hasText: 'Emma' }).click()
  await page.locator('.track .row', { hasText: 'it went on' }).waitFor()
  t.equal(await page.locator('.new').count(), 0, 'no line when all is read')
})

/** A proxy to the server that can be cut: it drops all data, and neither side is notified. */
const startWire = async (t: Test) => {
  const sockets = new Set<Socket>()
  let dead = false
  const { port } = new URL(instance.url)
  const server = createServer((near) => {
    const far = connect(Number(port), '127.0.0.1')
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(one)
      one.on('data', (data) => void (dead || other.write(data)))
      one.on('error', () => {})
      one.on('close', () => {
        sockets.delete(one)
        if (!dead) other.destroy()
      })
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return {
    url: `http://127.0.0.1:${(server.address() as { port: number }).port}`,
    cut: (on: boolean): void => void (dead = on),
  }
}
const light = (page: Page, text: string) => page.locator('.side .light', { hasText: text })

test('offline: the page reports it, and views opened meanwhile load when the connection is back, with their code', async (t) => {
  const { id, number } = await makeMission(instance)
  await request('POST', `/api/missions/${id}/chat/inna`, admin, { message: 'said to Inna' })
  await request('POST', `/api/missions/${id}/dod`, admin, { text: 'An item', category: 'tests' })
  await request('POST', `/api/missions/${id}/tests`, admin, { status: 'passed', summary: { passed: 1 }, logs: 'a log' })
  const views = {
    inna: ['.talk', '.track .row', 'said to Inna'],
    'rafael/checklist': ['.panel', '.checklist li', 'An item'],
    'rafael/tests': ['.panel', '.log', 'a log'],
    'rafael/code': ['.panel', '.codes', 'No code in this chat yet'],
    'rafael/timeline': ['.panel', '.event', 'An item'],
    'rafael/search': ['.panel', '.find', 'Words, "a phrase"'],
  }
  for (const [path, [part = '', shows = '', text = '']] of Object.entries(views)) {
    const page = await open(t, `${number}/emma`)
    await page.getByText(/^No messages with/).waitFor()
    await light(page, 'live').waitFor()
    await page.context().setOffline(true)
    await light(page, 'offline').waitFor()
    const [citizen = '', view] = path.split('/')
    await page.locator('.crewman', { hasText: new RegExp(citizen, 'i') }).click()
    if (view) await page.locator('.tabs a', { hasText: new RegExp(`^${view}$`, 'i') }).click()
    await page
      .locator(part)
      .getByText(/^Offline: .* will load once the connection is back/)
      .waitFor()
    await page.context().setOffline(false)
    await page.locator(shows, { hasText: text }).first().waitFor()
    await light(page, 'live').waitFor()
    t.equal(await page.getByText(/^Offline: /).count(), 0, path)
    t.equal(await page.locator('.failure').count(), 0, `${path}: no error is left`)
    await page.context().close()
  }
})

test('offline: a network that drops everything is noticed at the next request, which is answered later', async (t) => {
  if (!browser) return
  const { id, number } = await makeMission(instance)
  await request('POST', `/api/missions/${id}/chat/inna`, admin, { message: 'said to Inna' })
  const wire = await startWire(t)
  const page = await openPage(t, browser, `${wire.url}/deck/missions/${number}/emma#token=${alice}`)
  await light(page, 'live').waitFor()
  await page.getByText(/^No messages with/).waitFor()
  wire.cut(true)
  await page.locator('.crewman', { hasText: 'Inna' }).click()
  const asked = Date.now()
  await light(page, 'offline').waitFor()
  t.comment(`offline is shown after ${Date.now() - asked} ms`)
  await page
    .locator('.talk')
    .getByText(/^Offline: /)
    .waitFor()
  await page.locator('#composer').fill('written meanwhile')
  await page.keyboard.press('Enter')
  wire.cut(false)
  await page.locator('.track .row', { hasText: 'said to Inna' }).waitFor({ timeout: 30_000 })
  await page.locator('.track .row', { hasText: 'written meanwhile' }).waitFor({ timeout: 30_000 })
  await light(page, 'live').waitFor()
})
