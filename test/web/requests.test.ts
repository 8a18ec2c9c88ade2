// Requests to people in the page: cards above the message field while they are open, at their time in the chat afterwards; live on two
// instances; what is open over all missions; the past.
import t, { type Test } from 'tap'
import type { Page } from 'playwright-core'
import { connect } from '../../src/client/index.ts'
import { examine } from './axe.ts'
import { browserTests } from './browser.ts'
import { heavy } from './hostile.ts'
import {
  admin,
  alice,
  makeMission,
  rafael,
  startDeck,
  startInstance,
  token,
  until,
  type Json,
} from '../support/server.ts'

const { instance: one, database } = await startDeck(t)
const two = await startInstance(t, database.url)
const { request } = one
const { test, openUrl } = await browserTests(t, one)
const bob = await token({ sub: 'bob', role: 'user', missions: '*' })

const open = (t: Test, url: string, path: string, bearer = alice, options = {}): Promise<Page> =>
  openUrl(t, `${url}/deck/missions/${path}#token=${bearer}`, options)
const ask = async (mission: string, more: Json = {}): Promise<string> => {
  const body = { citizen: 'rafael', kind: 'approve', title: 'Deploy?', ...more }
  const { status, json, text } = await request('POST', `/api/missions/${mission}/requests`, admin, body)
  if (status !== 201) throw new Error(text)
  return String(json['id'])
}
const read = async (mission: string, id: string): Promise<Json> =>
  (await request('GET', `/api/missions/${mission}/requests/${id}`, admin)).json
const answer = (mission: string, id: string, value: unknown, bearer = bob) =>
  two.request('POST', `/api/missions/${mission}/requests/${id}/answer`, bearer, { answer: value })
const say = (mission: string, message: string, bearer = rafael) =>
  request('POST', `/api/missions/${mission}/chat/rafael`, bearer, { message })
const card = (page: Page, title: string) => page.locator('.card', { hasText: title })
/** An ended request in the chat. */
const ended = (page: Page, title: string) => page.locator('.scroll .ended', { hasText: title })
const crewman = (page: Page, name: string) => page.locator('.crewman', { hasText: name })
const live = (page: Page) => page.locator('.light', { hasText: 'live' }).filter({ visible: true }).waitFor()
/** Presses a button by keyboard. */
const press = async (page: Page, title: string, name: string): Promise<void> => {
  await card(page, title).getByRole('button', { name, exact: true }).focus()
  await page.keyboard.press('Enter')
}
/** Collects the API requests that a page makes from now on. */
const requestsOf = (page: Page): string[] => {
  const asked: string[] = []
  page.on('request', (one) => void (one.url().includes('/api/') && asked.push(one.url())))
  return asked
}

test('requests: two people on two instances answer at once; one answer counts, the other person reads why theirs does not, and both see the same', async (t) => {
  const { id, number } = await makeMission(one)
  const a = await open(t, one.url, `${number}/rafael`)
  const b = await open(t, two.url, `${number}/rafael`, bob)
  for (const page of [a, b]) await page.getByText(/^No messages with Rafael/).waitFor()
  for (let round = 0; round < 10; round++) {
    const title = `Deploy number ${round}?`
    const made = await ask(id, { title })
    for (const [page, name] of [
      [a, 'Approve'],
      [b, 'Decline'],
    ] as const)
      await card(page, title).getByRole('button', { name }).focus()
    await Promise.all([a, b].map((page) => page.keyboard.press('Enter')))
    await until(async () => (await read(id, made))['state'] === 'answered', 'an answer')
    const { answered_by: by } = await read(id, made)
    const result = `${by === 'alice' ? 'Approved' : 'Declined'} by ${String(by)}`
    const [winner, loser] = by === 'alice' ? [a, b] : [b, a]
    await ended(winner, title).getByText(result).waitFor()
    await card(winner, title).waitFor({ state: 'detached' })
    await card(loser, title).getByText(result).waitFor()
    await card(loser, title)
      .getByText(`${String(by)} answered first, so your answer does not count.`)
      .waitFor()
    await press(loser, title, 'Close')
    await ended(loser, title).getByText(result).waitFor()
    await card(loser, title).waitFor({ state: 'detached' })
  }
  await b.reload()
  await until(async () => (await b.locator('.scroll .ended').count()) === 10, 'all ended requests')
  const texts = (page: Page) => page.locator('.scroll .ended').allInnerTexts()
  t.strictSame(await texts(b), await texts(a))
})

test('requests: each kind has its controls, by pointer and by keyboard', async (t) => {
  const { id, number } = await makeMission(one)
  const page = await open(t, one.url, `${number}/rafael`)
  await page.getByText(/^No messages with Rafael/).waitFor()
  await live(page)
  const made = {
    approve: await ask(id, { title: 'By pointer?' }),
    decline: await ask(id, { title: 'Declined?' }),
    few: await ask(id, { title: 'Which colour?', kind: 'choose', options: ['red', 'blue ☕'] }),
    many: await ask(id, {
      title: 'Which number?',
      kind: 'choose',
      options: Array.from({ length: 50 }, (_, n) => `number ${n}`),
    }),
    long: await ask(id, { title: 'Which text?', kind: 'choose', options: ['short', 'words '.repeat(30).trim()] }),
    text: await ask(id, { title: 'What name?', kind: 'text' }),
    sent: await ask(id, { title: 'What address?', kind: 'text' }),
  }
  const answers = async (name: keyof typeof made, value: unknown): Promise<void> => {
    await until(async () => (await read(id, made[name]))['state'] === 'answered', `${name} to be answered`)
    t.match(await read(id, made[name]), { answer: value, answered_by: 'alice' }, name)
  }
  await card(page, 'What address?').waitFor()
  // A press right after the cards moved is not meant, so it is repeated.
  await until(async () => {
    await card(page, 'By pointer?')
      .getByRole('button', { name: 'Approve' })
      .click({ timeout: 1000 })
      .catch(() => {})
    return (await card(page, 'By pointer?').count()) === 0
  }, 'the click to count')
  await answers('approve', true)
  await press(page, 'Declined?', 'Decline')
  await answers('decline', false)
  await press(page, 'Which colour?', 'blue ☕')
  await answers('few', 'blue ☕')
  t.equal(await card(page, 'Which number?').getByRole('radio').count(), 50)
  t.ok(await card(page, 'Which number?').getByRole('button', { name: 'Send' }).isDisabled(), 'nothing is chosen')
  await card(page, 'Which number?').getByRole('radio').first().focus()
  for (const key of ['Space', 'ArrowDown', 'ArrowDown', 'Enter']) await page.keyboard.press(key)
  await answers('many', 'number 2')
  await card(page, 'Which text?').getByRole('radio').nth(1).focus()
  await page.keyboard.press('Space')
  await press(page, 'Which text?', 'Send')
  await answers('long', 'words '.repeat(30).trim())
  const field = card(page, 'What name?').getByRole('textbox')
  await field.fill('  ')
  t.ok(await card(page, 'What name?').getByRole('button', { name: 'Send' }).isDisabled(), 'blanks are no answer')
  await field.fill('Deck')
  await page.keyboard.press('Enter')
  await page.keyboard.type('two lines')
  await page.keyboard.press('Control+Enter')
  await answers('text', 'Deck\ntwo lines')
  await card(page, 'What address?').getByRole('textbox').fill('Main Street')
  await press(page, 'What address?', 'Send')
  await answers('sent', 'Main Street')
  await until(async () => (await page.locator('.card').count()) === 0, 'no open card')
  t.equal(await page.locator('.scroll .ended').count(), 7)
  t.match(await ended(page, 'What name?').innerText(), /Deck\s+two lines\s+Answered by alice/)
  await until(() => page.evaluate<boolean>(`document.activeElement.id === 'composer'`), 'the focus to be kept')
})

test('requests: a button that appears under the pointer does not take the press', async (t) => {
  const { id, number } = await makeMission(one)
  const page = await open(t, one.url, `${number}/rafael`)
  await page.getByText(/^No messages with Rafael/).waitFor()
  await live(page)
  await page.evaluate(`{
    window.pressed = 0
    new MutationObserver(() => {
      const button = document.querySelector('.card button')
      if (button && window.pressed++ === 0) button.dispatchEvent(new MouseEvent('click', { bubbles: true, detail: 1 }))
    }).observe(document.body, { childList: true, subtree: true })
  }`)
  const made = await ask(id, { title: 'Right under it?' })
  await until(() => page.evaluate<boolean>('window.pressed > 0'), 'the press')
  await press(page, 'Right under it?', 'Decline')
  await ended(page, 'Right under it?').waitFor()
  t.match(await read(id, made), { answer: false }, 'only the later press counts')
})

test('requests: expiry and withdrawal end the card in every page, and a card in use stays with what was written', async (t) => {
  const { id, number } = await makeMission(one)
  const a = await open(t, one.url, `${number}/rafael`)
  const b = await open(t, two.url, `${number}/rafael`, bob)
  for (const page of [a, b]) await page.getByText(/^No messages with Rafael/).waitFor()
  await ask(id, { title: 'Expires?', expires_in: 4 })
  const withdrawn = await ask(id, { title: 'Withdrawn?' })
  const written = await ask(id, { title: 'Your words?', kind: 'text' })
  const used = await ask(id, { title: 'In use?' })
  for (const page of [a, b])
    await card(page, 'Expires?')
      .getByText(/^expires (in \d s|now)$/)
      .waitFor()
  await card(a, 'Your words?').getByRole('textbox').fill('half a sentence')
  await card(b, 'In use?').getByRole('button', { name: 'Approve' }).focus()
  await request('POST', `/api/missions/${id}/requests/${withdrawn}/withdraw`, rafael)
  await answer(id, written, 'all of it')
  await answer(id, used, true, alice)
  for (const page of [a, b]) {
    await ended(page, 'Expires?').getByText('Expired without an answer').waitFor()
    await ended(page, 'Withdrawn?').getByText('Withdrawn by Rafael').waitFor()
    await card(page, 'Withdrawn?').waitFor({ state: 'detached' })
    await card(page, 'Expires?').waitFor({ state: 'detached' })
  }
  await ended(b, 'Your words?').getByText('Answered by bob').waitFor()
  t.match(await card(a, 'Your words?').innerText(), /Not sent: half a sentence\s+all of it\s+Answered by bob/)
  t.equal(await ended(a, 'Your words?').count(), 0, 'it stands in one place')
  await card(b, 'In use?').getByText('Approved by alice').waitFor()
  await until(
    () =>
      b.evaluate<boolean>(
        `document.activeElement.matches('.card') && document.activeElement.textContent.includes('In use?')`,
      ),
    'the focus to stay at the card',
  )
  await press(a, 'Your words?', 'Close')
  await ended(a, 'Your words?').waitFor()
  await b.locator('.crewman', { hasText: 'Emma' }).click()
  await b.locator('.crewman', { hasText: 'Rafael' }).click()
  await ended(b, 'In use?').waitFor()
  t.equal(await b.locator('.card').count(), 0, 'a chat that was left holds nothing')
})

test('requests: what is written as an answer is still there after a different chat, and after a reload', async (t) => {
  const { id, number } = await makeMission(one)
  await ask(id, { title: 'Which words?', kind: 'text' })
  const page = await open(t, one.url, `${number}/rafael`)
  const field = card(page, 'Which words?').getByRole('textbox')
  await field.fill('not sent yet')
  await crewman(page, 'Emma').click()
  await page.getByText(/^No messages with Emma/).waitFor()
  await crewman(page, 'Rafael').click()
  t.equal(await field.inputValue(), 'not sent yet')
  await page.reload()
  await field.waitFor()
  t.equal(await field.inputValue(), 'not sent yet')
})

test('requests: those of hidden missions are never shown nor counted, and a citizen sees cards without controls', async (t) => {
  const mine = await makeMission(one, { assigned_to: 'nina' })
  const theirs = await makeMission(one, { assigned_to: 'carol' })
  const nina = await token({ sub: 'nina', role: 'user' })
  await ask(theirs.id, { title: 'A secret?' })
  const page = await open(t, one.url, `${mine.number}/rafael`, nina)
  const sees = await open(t, two.url, `${theirs.number}/rafael`, rafael)
  await page.getByText(/^No messages with Rafael/).waitFor()
  await live(page)
  const frames: string[] = []
  page.on('websocket', (socket) => socket.on('framereceived', ({ payload }) => void frames.push(String(payload))))
  await page.reload()
  await page.getByText(/^No messages with Rafael/).waitFor()
  await ask(theirs.id, { title: 'A second secret?' })
  await ask(mine.id, { title: 'Not secret?' })
  await card(page, 'Not secret?').waitFor()
  await until(async () => (await page.title()).startsWith('(1) '), 'the title')
  await page.keyboard.press('r')
  await page.locator('.open-requests li').waitFor()
  t.strictSame(await page.locator('.open-requests li b').allInnerTexts(), ['Not secret?'])
  t.notMatch((await page.content()) + frames.join(), /A (second )?secret/)
  await request('PATCH', `/api/missions/${mine.id}`, admin, { assigned_to: 'carol' })
  await until(async () => (await page.locator('.open-requests li').count()) === 0, 'what is no longer visible to go')
  await until(async () => !(await page.title()).startsWith('('), 'the title to count nothing')
  await card(sees, 'A second secret?').waitFor()
  t.match(await card(sees, 'A secret?').innerText(), /A person answers this request/)
  t.equal(await sees.locator('.card button').count(), 0)
  t.equal(await sees.locator('.tally.requests, .to-requests').count(), 0, 'nothing is open for a citizen')
  t.notMatch(await sees.title(), /^\(/)
})

test('open requests: counted in the title, at the mission and the chat; the list leads to each card by click and by keyboard', async (t) => {
  const sub = 'olga'
  const olga = await token({ sub, role: 'user' })
  const first = await makeMission(one, { assigned_to: sub, title: 'First' })
  const second = await makeMission(one, { assigned_to: sub, title: 'Second' })
  await makeMission(one, { assigned_to: sub, title: 'Nothing' })
  const deploy = await ask(second.id, { citizen: 'sofia', title: 'Deploy the second?', expires_in: 100 })
  await ask(second.id, { citizen: 'zoe', title: 'Who is Zoe?', kind: 'text', expires_in: 200 })
  const pages = await Promise.all(
    [one, two].map(({ url }, n) =>
      open(t, url, `${first.number}/emma`, olga, { viewport: { width: n ? 360 : 1280, height: 740 } }),
    ),
  )
  const [wide, phone] = pages as [Page, Page]
  const titled = (count: string) =>
    Promise.all(pages.map((page) => until(async () => (await page.title()).startsWith(count), `${count} in the title`)))
  await titled('(2) ')
  const asked = pages.map(requestsOf)
  await ask(first.id, { title: 'Begin the first?', expires_in: 300 })
  await titled('(3) ')
  const mission = (page: Page, title: string) => page.locator('.mission', { hasText: title })
  await mission(wide, 'First').locator('.tally.requests', { hasText: '?1' }).waitFor()
  await mission(wide, 'Second').locator('.tally.requests', { hasText: '?2' }).waitFor()
  t.equal(await mission(wide, 'Nothing').locator('.tally').count(), 0)
  await crewman(wide, 'Rafael').locator('.tally.requests', { hasText: '?1' }).waitFor()
  t.strictSame(asked.flat(), [], 'a new request is counted without a request')
  t.match(await phone.locator('#menu').getAttribute('aria-label'), /3 open requests/)

  // By keyboard, to a mission that is not open.
  await wide.keyboard.press('r')
  const entries = wide.locator('.open-requests li')
  await until(async () => (await entries.count()) === 3, 'the list')
  t.strictSame(await entries.locator('b').allInnerTexts(), ['Deploy the second?', 'Who is Zoe?', 'Begin the first?'])
  await wide.keyboard.press('Tab')
  await wide.keyboard.press('Enter')
  const focused = (page: Page, title: string) =>
    until(
      () =>
        page.evaluate<boolean>(
          `document.activeElement.matches('.card') && document.activeElement.textContent.includes('${title}')`,
        ),
      `the card of ${title} to have the focus`,
    )
  await focused(wide, 'Deploy the second?')
  t.match(wide.url(), `/missions/${second.number}/sofia`)
  t.equal(await wide.locator('dialog').count(), 0)

  // By one click, on a phone where a panel hides the chat.
  await phone.locator('.tabs a', { hasText: 'Checklist' }).click()
  await phone.locator('.bar .to-requests').click()
  await phone.locator('.open-requests a', { hasText: 'Who is Zoe?' }).click()
  await focused(phone, 'Who is Zoe?')
  await crewman(phone, 'Zoe').locator('.tally.requests', { hasText: '?1' }).waitFor()
  t.ok((await phone.evaluate<number>('document.documentElement.scrollWidth')) <= 360)

  // The list is live; what ends leaves it and the counts.
  await phone.keyboard.press('Escape')
  await phone.keyboard.press('r')
  await until(async () => (await phone.locator('.open-requests li').count()) === 3, 'the list')
  await answer(second.id, deploy, true, olga)
  await until(async () => (await phone.locator('.open-requests li').count()) === 2, 'the answered one to leave')
  await titled('(2) ')
  await phone.keyboard.press('Escape')
  await phone.locator('dialog').waitFor({ state: 'detached' })
})

test('requests: an idle page asks for nothing, and a page load reads the requests of its mission once', async (t) => {
  const { id, number } = await makeMission(one, { assigned_to: 'paul' })
  const paul = await token({ sub: 'paul', role: 'user' })
  const page = await open(t, one.url, `${number}/rafael`, paul)
  await page.getByText(/^No messages with Rafael/).waitFor()
  const asked = requestsOf(page)
  const reload = async (): Promise<void> => {
    page.once('framenavigated', () => (asked.length = 0))
    await page.reload()
    await live(page)
  }
  await reload()
  await page.getByText(/^No messages with Rafael/).waitFor()
  t.ok(asked.length <= 3, `without requests: ${asked.join(' ')}`)
  const first = await ask(id, { title: 'The first?' })
  await card(page, 'The first?').waitFor()
  await answer(id, first, true, admin)
  await ended(page, 'The first?').waitFor()
  t.ok(asked.length <= 3, `live: ${asked.join(' ')}`)
  await ask(id, { title: 'The second?' })
  await reload()
  await card(page, 'The second?').waitFor()
  await ended(page, 'The first?').waitFor()
  t.ok(asked.length <= 4, `with requests: ${asked.join(' ')}`)
  const before = asked.length
  await page.evaluate(`new Promise((done) => { let left = 60
    const next = () => (left-- > 0 ? requestAnimationFrame(next) : done())
    next() })`)
  t.equal(asked.length, before, 'then nothing')
})

test('requests: made and ended while the page was offline, they are right after it', async (t) => {
  const server = await startInstance(t, database.url)
  const { port } = new URL(server.url)
  const { id, number } = await makeMission(one, { assigned_to: 'rosa' })
  const rosa = await token({ sub: 'rosa', role: 'user' })
  const gone = await ask(id, { title: 'Ends meanwhile?' })
  const page = await open(t, server.url, `${number}/rafael`, rosa)
  await card(page, 'Ends meanwhile?').waitFor()
  await until(async () => (await page.title()).startsWith('(1) '), 'the title')
  const tried = await ask(id, { title: 'Tried meanwhile?' })
  await card(page, 'Tried meanwhile?').waitFor()
  await server.close()
  await page.locator('.light', { hasText: 'offline' }).filter({ visible: true }).waitFor()
  await press(page, 'Tried meanwhile?', 'Approve')
  await card(page, 'Tried meanwhile?')
    .getByText(/^Not sent: /)
    .waitFor()
  await answer(id, gone, false)
  await ask(id, { title: 'Made meanwhile?' })
  await ask(id, { citizen: 'emma', title: 'Made elsewhere?' })
  await startInstance(t, database.url, { port: Number(port) })
  await card(page, 'Made meanwhile?').waitFor({ timeout: 20_000 })
  await ended(page, 'Ends meanwhile?').getByText('Declined by bob').waitFor()
  await until(async () => (await page.title()).startsWith('(3) '), 'the title')
  await press(page, 'Tried meanwhile?', 'Approve')
  await ended(page, 'Tried meanwhile?').getByText('Approved by rosa').waitFor()
  t.match(await read(id, tried), { answer: true, answered_by: 'rosa' })
  await until(async () => (await page.title()).startsWith('(2) '), 'the title')
  await crewman(page, 'Emma').locator('.tally.requests', { hasText: '?1' }).waitFor()
})

test('requests: after a restore of the database the page has those of the restored one', async (t) => {
  const restored = await startDeck(t)
  const { id, number } = await makeMission(restored.instance)
  const make = (title: string, citizen = 'rafael') =>
    restored.instance.request('POST', `/api/missions/${id}/requests`, admin, { citizen, kind: 'approve', title })
  for (const title of ['Kept?', 'Lost?', 'Lost, too?']) await make(title)
  await make('Elsewhere lost?', 'emma')
  const page = await open(t, restored.instance.url, `${number}/rafael`)
  await card(page, 'Lost, too?').waitFor()
  await until(async () => (await page.title()).startsWith('(4) '), 'the title')
  const owner = await restored.database.connect()
  await owner.query(`begin;
    update deck.epoch_salt set salt = 'restored';
    delete from deck.requests where title like '%ost%';
    delete from deck.events where topic = 'missions/${id}/requests' and seq > 1;
    commit`)
  await make('Made afterwards?')
  await card(page, 'Made afterwards?').waitFor()
  await until(async () => (await page.title()).startsWith('(2) '), 'the title')
  await until(async () => (await page.locator('.card').count()) === 2, 'the lost ones to go')
  await card(page, 'Kept?').waitFor()
  t.equal(await crewman(page, 'Emma').locator('.tally').count(), 0)
})

test('requests: ended ones stand at their time among the messages, also far above, each once', async (t) => {
  const { id, number } = await makeMission(one)
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, author, message, created_at)
     select $1, 'rafael', 'user', 'alice', 'line ' || n, now() at time zone 'utc' - interval '1 minute' * (1000 - n)
     from generate_series(1, 400) n`,
    [id],
  )
  await database.query(
    `insert into deck.requests (mission_id, citizen, kind, title, created_at, expires_at, state)
     select $1, case n % 2 when 0 then 'rafael' else 'emma' end, 'approve', 'request ' || n || '!',
       now() at time zone 'utc' - interval '1 minute' * (1000 - n) - interval '30 seconds', now() at time zone 'utc', 'withdrawn'
     from generate_series(0, 402) n`,
    [id],
  )
  await until(
    async () =>
      (await database.query('select 1 from chat_messages where mission_id = $1 and seq is null', [id])).length === 0,
    'all to be numbered',
  )
  const socket = await one.connect(alice)
  await socket.ask({ type: 'read', topic: `missions/${id}/chat/rafael`, seq: 1000 })
  const page = await open(t, one.url, `${number}/rafael`)
  await ended(page, 'request 402!').waitFor()
  /** The order of what is rendered: messages n, requests n. */
  const order = async (): Promise<string[]> =>
    page.evaluate<string[]>(
      `[...document.querySelectorAll('.page')].sort((a, b) => a.dataset.page - b.dataset.page)
         .flatMap((page) => [...page.querySelectorAll('.row')])
         .map((row) => (row.dataset.request ? row.querySelector('.request-title')?.textContent ?? '' : row.querySelector('.markdown').textContent.trim()))`,
    )
  const right = async (least: number): Promise<boolean> => {
    const shown = await order()
    const numbers = shown.map((text) => Number(/\d+/.exec(text)?.[0]))
    const first = Number(/\d+/.exec(shown.find((text) => text.startsWith('line')) ?? '')?.[0])
    const last = Number(/\d+/.exec(shown.findLast((text) => text.startsWith('line')) ?? '')?.[0])
    const expected: string[] = []
    for (let n = first; n <= last; n++) expected.push(...(n % 2 ? [] : [`request ${n}!`]), `line ${n}`)
    // A request directly above the first rendered message may be there already.
    const from = shown.findIndex((text) => text === `line ${first}`) - (first % 2 ? 0 : 1)
    return numbers.length >= least && JSON.stringify(shown.slice(from)) === JSON.stringify(expected)
  }
  await until(() => right(30), 'the newest ones in order')
  await page.locator('.scroll').focus()
  await page.keyboard.press('Home')
  await page.locator('.track .markdown', { hasText: /^line 1$/ }).waitFor()
  await until(() => right(30), 'the oldest ones in order')
  t.equal((await order())[0], 'request 0!', 'older than the first message')
  await page.keyboard.press('End')
  await page.locator('.track .markdown', { hasText: /^line 400$/ }).waitFor()
  await until(() => right(30), 'the newest ones in order, again')
  t.equal(await page.locator('.scroll .row', { hasText: 'request 402!' }).count(), 1)
})

test('requests: of very many open ones twenty cards are shown, the list has all, and each leads to its card; of ended ones fifty', async (t) => {
  const { id, number } = await makeMission(one, { assigned_to: 'quin' })
  const quin = await token({ sub: 'quin', role: 'user' })
  await database.query(
    `insert into deck.requests (mission_id, citizen, kind, title, expires_at)
     select $1, 'rafael', 'approve', 'request ' || n || '!', now() at time zone 'utc' + interval '1 hour' + n * interval '1 s'
     from generate_series(1, 260) n`,
    [id],
  )
  const page = await open(t, one.url, `${number}/rafael`, quin)
  await page.locator('.card').first().waitFor()
  await until(async () => (await page.title()).startsWith('(260) '), 'the title')
  t.equal(await page.locator('.card').count(), 20)
  await page.getByText(/more requests follow/).waitFor()
  await page.locator('.side .to-requests').click()
  const entries = page.locator('.open-requests li')
  await until(async () => (await entries.count()) === 100, 'the first page')
  await page.getByRole('button', { name: 'More' }).click()
  await until(async () => (await entries.count()) === 200, 'the second page')
  await page.locator('.open-requests a', { hasText: 'request 1!' }).click()
  await card(page, 'request 1!').waitFor()
  await press(page, 'request 1!', 'Approve')
  await until(async () => (await page.title()).startsWith('(259) '), 'the title')
  // Ended ones between two messages are bounded, too. (The focus moved to the next card, which would stay.)
  await until(() => page.evaluate<boolean>(`document.activeElement.matches('.card')`), 'the focus on the next card')
  await page.locator('#composer').focus()
  await database.query(`update deck.requests set state = 'withdrawn' where mission_id = $1 and state = 'open'`, [id])
  await until(async () => !(await page.title()).startsWith('('), 'the title to count nothing')
  await page.getByText('210 earlier requests are in the timeline.').waitFor()
  t.equal(await page.locator('.scroll .ended').count(), 50)
  t.equal(await page.locator('.card').count(), 0)
})

test('requests: a hostile body, title or option stays text, and the card bounded', async (t) => {
  const { id, number } = await makeMission(one)
  const evil =
    '<img src=x onerror=alert(1)><script>alert(1)</script>[x](javascript:alert(1)) ![i](https://evil.example/i.png)'
  await ask(id, { title: evil.slice(0, 200), body: `${evil}\n\n\u202eevil\n\n- <b>x</b>`, kind: 'text' })
  await ask(id, { title: 'Pick', kind: 'choose', options: ['<b>bold</b>', '\u202edesrever', 'w'.repeat(200)] })
  await ask(id, { title: 'w'.repeat(200), body: heavy['nested quotes'] ?? '' })
  await ask(id, { title: 'Table', body: heavy['a wide table'] ?? '' })
  const asked: string[] = []
  const page = await open(t, one.url, `${number}/rafael`, alice, { viewport: { width: 360, height: 740 } })
  page.on('dialog', () => t.fail('a script ran'))
  page.on('request', (one) => void asked.push(one.url()))
  await card(page, 'Table').waitFor()
  await until(async () => (await card(page, 'onerror').locator('.markdown').count()) > 0, 'the body')
  t.equal(await page.locator('.card :is(img, script, iframe, b:not(header b))').count(), 0)
  t.equal(await page.locator('.card a[href^="javascript"]').count(), 0)
  t.match(await card(page, 'onerror').innerText(), /\[U\+202E\]evil/)
  t.match(await card(page, 'Pick').innerText(), /<b>bold<\/b>[^]*\[U\+202E\]desrever/)
  t.notOk(asked.some((url) => url.includes('evil.example')))
  t.ok((await page.evaluate<number>('document.documentElement.scrollWidth')) <= 360)
  const heights = await page.evaluate<number[]>(
    `[...document.querySelectorAll('.card')].map((card) => card.clientHeight)`,
  )
  for (const height of heights) t.ok(height < 740, `${height} px`)
})

test('requests: a card says which question waits for it and leads there, the question says for what, and the answer lets the agent reply', async (t) => {
  const { id, number } = await makeMission(one)
  const agent = await token({ sub: 'inna', role: 'citizen' })
  const deck = connect({ url: two.url, token: agent })
  t.teardown(() => deck.close())
  void deck
    .citizen('inna')
    .answer(async (_question, reply) =>
      (await reply.ask({ kind: 'approve', title: 'Deploy now?' })) ? 'Deployed.' : 'Left.',
    )
  const page = await open(t, one.url, `${number}/inna`)
  await page.getByText(/^No messages with Inna/).waitFor()
  await page.locator('#composer').fill('Please bring it to production')
  await page.keyboard.press('Enter')
  await card(page, 'Deploy now?').waitFor()
  const question = page.locator('.track .row', { hasText: 'Please bring it' })
  await question.getByText('waits for an answer to “Deploy now?”').waitFor()
  for (let n = 0; n < 60; n++)
    await database.query(
      `insert into chat_messages (mission_id, citizen, sender, message) values ($1, 'inna', 'citizen', 'step ' || $2::text || E'\\n\\nis done')`,
      [id, n],
    )
  await page.keyboard.press('n')
  await page.locator('.track .row', { hasText: 'step 59' }).waitFor()
  await card(page, 'Deploy now?').getByRole('button', { name: 'Waits: alice: Please bring it to production' }).focus()
  await page.keyboard.press('Enter')
  await page.locator('.row.found', { hasText: 'Please bring it to production' }).waitFor()
  await press(page, 'Deploy now?', 'Approve')
  await page.keyboard.press('n')
  await page.locator('.track .row', { hasText: 'Deployed.' }).waitFor()
  // It was made before the steps, so that is where it stands.
  await page.locator('.scroll').focus()
  await page.keyboard.press('Home')
  await ended(page, 'Deploy now?').getByText('Approved by alice').waitFor()
})

test('requests: a new card takes no focus and no text, and is announced politely', async (t) => {
  const { id, number } = await makeMission(one, { assigned_to: 'tess' })
  const elsewhere = await makeMission(one, { assigned_to: 'tess' })
  const tess = await token({ sub: 'tess', role: 'user' })
  const page = await open(t, one.url, `${number}/rafael`, tess)
  await page.getByText(/^No messages with Rafael/).waitFor()
  await live(page)
  await page.locator('#composer').focus()
  await page.keyboard.type('I am ')
  const made = await ask(id, { title: 'May I?' })
  await card(page, 'May I?').waitFor()
  await page.keyboard.type('writing')
  t.equal(await page.locator('#composer').inputValue(), 'I am writing')
  const said = (text: string) => page.locator('[aria-live=polite]', { hasText: text }).waitFor({ state: 'attached' })
  await said('Rafael asks: May I?')
  await ask(elsewhere.id, { citizen: 'sofia', title: 'And I?' })
  await said(`Sofia asks in mission ${elsewhere.number}: And I?`)
  await answer(id, made, true)
  await said('A request was answered: May I?')
  await ended(page, 'May I?').waitFor()
  t.equal(await page.locator('#composer').inputValue(), 'I am writing')
  t.ok(await page.evaluate<boolean>(`document.activeElement.id === 'composer'`))
})

test('timeline: requests appear live, in words, and the past shows them as they were', async (t) => {
  const { id, number } = await makeMission(one)
  await say(id, 'I begin')
  const page = await open(t, one.url, `${number}/rafael/timeline`)
  await page.locator('.event', { hasText: 'I begin' }).waitFor()
  const made = await ask(id, { title: 'Deploy it?', body: 'with **care**' })
  await page.locator('.event', { hasText: 'Rafael asks: Deploy it?' }).waitFor()
  await answer(id, made, false)
  const last = await ask(id, { title: 'Name it?', kind: 'text' })
  await answer(id, last, 'Deck')
  for (const text of ['bob declined: Deploy it?', 'bob answered “Deck” to: Name it?'])
    await page.locator('.event', { hasText: text }).waitFor()
  // Before the answer it was open; nothing can be answered there.
  await page.locator('.event', { hasText: 'Rafael asks: Deploy it?' }).locator('.when').click()
  const past = page.locator('.talk .past-messages .ended')
  await past.getByText(/^Open until/).waitFor()
  t.strictSame(await past.locator('.request-title').allInnerTexts(), ['Deploy it?'])
  t.equal(await page.locator('.talk :is(.card, .controls)').count(), 0)
  await past.locator('summary').click()
  await past.locator('strong', { hasText: 'care' }).waitFor()
  await page.locator('.talk').focus()
  await page.keyboard.press('.')
  await past.getByText('Declined by bob').waitFor()
  await page.locator('.event', { hasText: 'I begin' }).locator('.when').click()
  await until(async () => (await past.count()) === 0, 'the time before the requests')
  await page.keyboard.press('Escape')
  await page.keyboard.press('Escape')
  await ended(page, 'Name it?').getByText('Answered by bob').waitFor()
  await ended(page, 'Deploy it?').getByText('Declined by bob').waitFor()
})

test('timeline: an event of a request leads to its card, and to where an ended one stands', async (t) => {
  const { id, number } = await makeMission(one)
  for (let n = 0; n < 30; n++) await say(id, `before ${n}\n\nand more`)
  const old = await ask(id, { title: 'An old one?' })
  await answer(id, old, true)
  for (let n = 0; n < 60; n++) await say(id, `after ${n}\n\nand more`)
  const socket = await one.connect(alice)
  await socket.ask({ type: 'read', topic: `missions/${id}/chat/rafael`, seq: 1000 })
  const elsewhere = await ask(id, { citizen: 'emma', title: 'An open one?' })
  const page = await open(t, one.url, `${number}/rafael/timeline`)
  const event = (text: string) =>
    page.locator('.event', { hasText: text }).getByRole('button', { name: /^Show the current/ })
  await event('Emma asks: An open one?').click()
  await until(
    () => page.evaluate<boolean>(`document.activeElement.dataset.request === '${elsewhere}'`),
    'the card to have the focus',
  )
  await page.locator('.events').focus()
  await page.keyboard.press('Home')
  await event('bob approved: An old one?').click()
  await ended(page, 'An old one?').getByText('Approved by bob').waitFor()
  await page.locator('.row.found', { hasText: 'before 29' }).waitFor()
})

for (const [colorScheme, width, height] of [
  ['light', 1280, 800],
  ['dark', 360, 740],
  ['light', 740, 360],
] as const)
  test(`requests: axe finds no violation in any state, ${colorScheme}, ${width} px`, async (t) => {
    const { id, number } = await makeMission(one, { title: 'All states', assigned_to: 'uma' })
    const uma = await token({ sub: 'uma', role: 'user' })
    const page = await open(t, one.url, `${number}/rafael`, uma, { colorScheme, viewport: { width, height } })
    await page.getByText(/^No messages with Rafael/).waitFor()
    await say(id, 'I have questions')
    const held = await ask(id, { title: 'Held?', kind: 'text' })
    const more = [
      await ask(id, { title: 'Approved?', body: 'with details' }),
      await ask(id, { title: 'Declined?' }),
      await ask(id, { title: 'Answered?', kind: 'text' }),
    ]
    await ask(id, { title: 'Approve or decline?', body: 'A body with `code`.', expires_in: 200 })
    await ask(id, { title: 'Choose?', kind: 'choose', options: ['a', 'b'] })
    await ask(id, {
      title: 'Choose one?',
      kind: 'choose',
      options: Array.from({ length: 12 }, (_, n) => `option ${n}`),
    })
    await ask(id, { title: 'Expired?', expires_in: 1 })
    await card(page, 'Held?').getByRole('textbox').fill('my words')
    for (const [n, value] of [true, false, 'some text'].entries()) await answer(id, more[n] ?? '', value)
    await answer(id, held, 'other words')
    await card(page, 'Held?').getByText('Answered by bob').waitFor()
    await page.locator('.scroll .ended', { hasText: 'Expired?' }).waitFor()
    await until(async () => (await page.locator('.scroll .ended').count()) === 4, 'the ended ones')
    t.same(await examine(page), [])
    if (width < 820) {
      const [menu, button] = [
        await page.locator('#menu').boundingBox(),
        await page.locator('.bar .to-requests').boundingBox(),
      ]
      t.ok(menu && button && menu.x + menu.width <= button.x, 'the buttons stand side by side')
    }
    await page.locator('.talk').focus()
    await page.keyboard.press('r')
    await page.locator('.open-requests li').first().waitFor()
    t.same(await examine(page), [])
    t.ok((await page.evaluate<number>('document.documentElement.scrollWidth')) <= width)
  })
