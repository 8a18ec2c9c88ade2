// The Deck page in a real Chromium: a newcomer's tour from the link to a checked item; two users in two browsers on two instances;
// a server that restarts during a draft; a token that expires or is refused.
import { readFileSync } from 'node:fs'
import t from 'tap'
import type { Page } from 'playwright-core'
import { connect } from '../../src/client/index.ts'
import { browserTests } from './browser.ts'
import { admin, alice, makeMission, rafael, startDeck, startInstance, token, until } from '../support/server.ts'

const { instance: one, database } = await startDeck(t)
const two = await startInstance(t, database.url)
const seed = readFileSync(new URL('../../db/seed.sql', import.meta.url), 'utf8').replaceAll(
  'person1@scopelock.ai',
  'alice',
)
await database.query(seed)
const { test, openUrl } = await browserTests(t, one)

const messageWith = (page: Page, text: string) => page.locator('.track .row', { hasText: text })
const light = (page: Page) => page.locator('.side .light')
const write = async (page: Page, text: string): Promise<void> => {
  await page.locator('#composer').fill(text)
  await page.keyboard.press('Enter')
}

test('tour: from the sign-in link to a checked item', async (t) => {
  const page = await openUrl(t, `${one.url}/#token=${alice}`)
  await messageWith(page, 'How do I add inline buttons?').waitFor()
  t.notMatch(page.url(), /token/, 'the address contains no token')
  t.notMatch(await page.evaluate<string>('JSON.stringify(history.state) + document.body.innerHTML'), /eyJ/)
  t.match(page.url(), /\/deck\/missions\/47\/rafael$/)
  t.match(await page.title(), /#47 Telegram Notifier · Rafael/)
  await light(page).getByText('live').waitFor()
  t.same(await page.locator('.crewman .name').allTextContents(), ['Emma', 'Inna', 'Rafael', 'Sofia', 'Maya'])
  t.match(await page.locator('.mission').first().innerText(), /#47[^]*Telegram Notifier[^]*Active[^]*\$300[^]*8 Nov/)
  t.same(await page.locator('.code .line').allInnerTexts(), [
    'keyboard = [[InlineKeyboardButton("Approve", callback_data="approve"),\n',
    '             InlineKeyboardButton("Reject", callback_data="reject")]]\n',
    'await bot.send_message(chat_id, text, reply_markup=InlineKeyboardMarkup(keyboard))\n',
  ])

  // Shift+Enter begins a line, Enter sends.
  await page.locator('#composer').fill('Two lines:')
  await page.keyboard.press('Shift+Enter')
  await page.keyboard.type('the second')
  await page.keyboard.press('Enter')
  await messageWith(page, 'Two lines:').waitFor()
  t.match(await messageWith(page, 'Two lines:').innerText(), /Two lines:\nthe second/)
  t.equal(await page.locator('#composer').inputValue(), '')

  // By keyboard to Sofia: her checklist is shown beside the chat.
  await page.keyboard.press('Escape')
  await page.keyboard.press('l')
  await page.waitForURL('**/47/sofia')
  await page.getByText('Did the tests pass?').waitFor()
  const progress = page.locator('.checklist .progress')
  t.match(await progress.innerText(), /1\/4 25%/)
  await page.getByLabel('Inline buttons approve or reject it').check()
  await progress.getByText('2/4').waitFor()
  await until(async () => {
    const rows = await database.query(`select completed from dod_items where text like 'Inline buttons%'`)
    return rows[0]?.['completed'] === true
  }, 'the tick in the database')

  // An item that is checked elsewhere is checked here.
  await database.query(`update dod_items set completed = true where text like 'Unit tests for sending%'`)
  await progress.getByText('3/4').waitFor()
  await page.getByRole('button', { name: 'Reset' }).click()
  await page.getByRole('button', { name: 'Yes' }).click()
  await progress.getByText('0/4').waitFor()

  // The back button returns to the previous chat, and the page reopens the last one.
  await page.goBack()
  await page.waitForURL('**/47/rafael')
  await messageWith(page, 'the second').waitFor()
  await page.keyboard.press('j')
  await page.waitForURL('**/48/rafael')
  await page.goto(`${one.url}/`)
  await page.waitForURL('**/48/rafael')
})

test('tests view: follows a running log, and asks the citizen about a failed test in a quote', async (t) => {
  const page = await openUrl(t, `${one.url}/#token=${alice}`)
  await page.goto(`${one.url}/deck/missions/47/sofia/tests`)
  await page.getByText('KeyError: callback_data').first().waitFor()
  await page.locator('.log').getByText('test_send_message ... ok').waitFor()
  const path = '/api/missions/47/tests'
  const { json } = await one.request('POST', path, admin, { status: 'running', logs: 'begun\n' })
  await page.locator('select option').nth(1).waitFor({ state: 'attached' })
  await page.getByLabel('Test run').selectOption(String(json['id']))
  await page.locator('.log').getByText('begun').waitFor()
  const lines = Array.from({ length: 200 }, (_, n) => `line ${n}\n`).join('')
  await one.request('POST', `${path}/${String(json['id'])}/logs`, admin, lines, { 'content-type': 'text/plain' })
  await page.locator('.log').getByText('line 199').waitFor()
  const rest = () =>
    page.evaluate<number>(
      `(({ scrollHeight, scrollTop, clientHeight }) => scrollHeight - scrollTop - clientHeight)(document.querySelector('.log'))`,
    )
  await until(async () => (await rest()) < 2, 'the log to scroll to its end')
  await one.request('PATCH', `${path}/${String(json['id'])}`, admin, {
    status: 'failed',
    summary: { passed: 9, failed: 1, duration: 5.2 },
    results: [{ test: 'test_reject', status: 'failed', error: 'AssertionError: expected 2' }],
  })
  await page.locator('.verdict').getByText('Failed').waitFor()
  t.match(await page.locator('.tests .progress').innerText(), /9\/10 90%/)
  t.match(await page.locator('.figures').innerText(), /duration\n5.2/)
  await page.getByRole('button', { name: /Ask Rafael/ }).click()
  await page.waitForURL('**/47/rafael/chat')
  t.match(await page.locator('#composer').inputValue(), /> \*\*test_reject\*\* failed[^]*AssertionError: expected 2/)
})

test('chat: two users in two browsers on two instances see the same messages, typing and unread counts', async (t) => {
  const { number } = await makeMission(one, { title: 'Two of us' })
  const carol = await token({ sub: 'carol', role: 'user', missions: [number] })
  const place = `/deck/missions/${number}/emma`
  const [a, b] = await Promise.all([openUrl(t, `${one.url}/#token=${alice}`), openUrl(t, `${two.url}/#token=${carol}`)])
  await Promise.all([a.goto(one.url + place), b.goto(two.url + place)])
  await Promise.all([light(a).getByText('live').waitFor(), light(b).getByText('live').waitFor()])
  await Promise.all([a.locator('.list').waitFor(), b.locator('.list').waitFor()])
  await b.locator('#composer').pressSequentially('I am')
  await a.locator('.typing', { hasText: 'Carol is typing' }).waitFor()
  await b.locator('#composer').fill('Hello from the other one')
  await b.keyboard.press('Enter')
  await messageWith(a, 'Hello from the other one').waitFor()
  await a.locator('.typing', { hasText: /^\s*$/ }).waitFor()
  for (let n = 0; n < 5; n++) {
    await write(a, `a ${n}`)
    await write(b, `b ${n}`)
  }
  await Promise.all([a, b].map((page) => until(async () => (await page.locator('.track .row').count()) === 11, 'all')))
  const order = (page: Page) => page.locator('.track .row .markdown').allInnerTexts()
  t.same(await order(a), await order(b))
  t.equal(await a.locator('.row.out').count(), 0)
  // A user who views a different mission sees the number of unread messages.
  await a.keyboard.press('Escape')
  await a.keyboard.press('k')
  await a.waitForURL('**/48/**')
  await write(b, 'one more')
  await a.locator('.mission', { hasText: 'Two of us' }).locator('.badge', { hasText: '1' }).waitFor()
})

test('chat: when the server restarts during a draft, the page reports it, resumes, and stores the unsent message once', async (t) => {
  const server = await startInstance(t, database.url)
  const { port } = new URL(server.url)
  const { number } = await makeMission(one, { title: 'Restarted' })
  const citizen = connect({ url: two.url, token: rafael })
  t.teardown(() => citizen.close())
  const page = await openUrl(t, `${server.url}/#token=${alice}`)
  await page.goto(`${server.url}/deck/missions/${number}/rafael`)
  await page.locator('.list').waitFor()
  const reply = citizen.chat(number, 'rafael').stream('r1')
  reply.write('The first half')
  await page.locator('[data-draft]', { hasText: 'The first half' }).waitFor()
  await page.locator('.crewman', { hasText: 'is writing' }).waitFor()
  await server.close()
  await light(page).getByText('offline').waitFor()
  await write(page, 'said while it was away')
  await page.locator('.row.out.pending', { hasText: 'said while it was away' }).waitFor()
  reply.write(', and the second')
  await startInstance(t, database.url, { port: Number(port) })
  await light(page).getByText('live').waitFor({ timeout: 20_000 })
  await messageWith(page, 'said while it was away').waitFor()
  await page.locator('[data-draft]', { hasText: 'The first half, and the second' }).waitFor()
  await page.getByRole('button', { name: 'Stop' }).click()
  await until(() => reply.signal.aborted, 'the writer to receive the cancel request')
  await reply.done()
  await messageWith(page, 'The first half, and the second').waitFor()
  t.equal(await page.locator('[data-draft], .row.out').count(), 0)
  const rows = await database.query(`select 1 from chat_messages where message = 'said while it was away'`)
  t.equal(rows.length, 1)
})

test('chat: a refused message stays with its reason, and can be sent again', async (t) => {
  const { number, id } = await makeMission(one, { title: 'Refused' })
  const page = await openUrl(t, `${one.url}/#token=${alice}`)
  await page.goto(`${one.url}/deck/missions/${number}/maya`)
  await page.locator('.list').waitFor()
  // A constraint of the database stands for any refusal.
  await database.query(
    `alter table chat_messages add constraint no_such_word check (message <> 'forbidden word') not valid`,
  )
  await write(page, 'forbidden word')
  const out = page.locator('.row.out.failed')
  await out.getByText('Not sent').waitFor()
  await page.reload()
  await out.getByText('Not sent').waitFor()
  await database.query('alter table chat_messages drop constraint no_such_word')
  await out.getByRole('button', { name: 'Try again' }).click()
  await messageWith(page, 'forbidden word').waitFor()
  t.equal(await page.locator('.row.out').count(), 0)
  t.equal((await database.query('select 1 from chat_messages where mission_id = $1', [id])).length, 1)
})

test('composer: unsent text is kept for each chat', async (t) => {
  const page = await openUrl(t, `${one.url}/#token=${alice}`)
  await page.goto(`${one.url}/deck/missions/48/emma`)
  await page.locator('#composer').fill('not yet sent')
  await page.locator('.crewman', { hasText: 'Inna' }).click()
  await page.getByLabel('Message to Inna').waitFor()
  t.equal(await page.locator('#composer').inputValue(), '')
  await page.reload()
  await page.locator('.crewman', { hasText: 'Emma' }).click()
  await page.getByLabel('Message to Emma').waitFor()
  t.equal(await page.locator('#composer').inputValue(), 'not yet sent')
})

test('sign in: a refused or expired token is explained, and a new one signs in at the same place', async (t) => {
  const page = await openUrl(t, one.url)
  await page.getByLabel('Token').fill('no token')
  await page.keyboard.press('Enter')
  await page.getByText('This is not a token').waitFor()
  const forged = alice.replace(/\.[^.]*$/, '.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA')
  await page.getByLabel('Token').fill(forged)
  await page.keyboard.press('Enter')
  await page.getByText('The server refused this token').waitFor()
  await page.goto(`${one.url}/deck/missions/48/inna#token=${await token({ sub: 'alice', role: 'user' }, 4)}`)
  await page.locator('.list').waitFor()
  await page.getByText('Your token expired').waitFor()
  t.equal(await page.evaluate("sessionStorage.getItem('deck.token')"), null)
  await page.getByLabel('Token').fill(alice)
  await page.keyboard.press('Enter')
  await page.locator('.list').waitFor()
  t.match(page.url(), /\/48\/inna$/)
})
