// A mission's past in a real Chromium: the timeline, which is live at its end, and the time machine, which shows and replays past states
// and accepts no input.
import t from 'tap'
import type { Page } from 'playwright-core'
import { connect } from '../../src/client/index.ts'
import { apply, type MissionAt } from '../../src/web/mission-at.ts'
import { browserTests } from './browser.ts'
import { retell } from './story.ts'
import { admin, alice, makeMission, rafael, startDeck, until, type Json } from '../support/server.ts'

const { instance, database } = await startDeck(t)
const { request } = instance
const { test, open } = await browserTests(t, instance)
const texts = (page: Page): Promise<string[]> => page.locator('.event p').allInnerTexts()
const frames = (page: Page) =>
  page.evaluate('new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))')

/** Makes a mission whose events are 20 s apart. Resolves with the events' times, in order. */
const makeStory = async () => {
  const { id, number } = await makeMission(instance)
  const at = `/api/missions/${id}`
  const post = (citizen: string, token: string, message: string) =>
    request('POST', `${at}/chat/${citizen}`, token, { message })
  const add = async (text: string) =>
    String((await request('POST', `${at}/dod`, rafael, { text, category: 'functional' })).json['id'])
  await post('rafael', alice, 'Can you begin?')
  const one = await add('The first thing')
  await add('The second thing')
  await post('rafael', rafael, 'I have begun')
  await request('POST', `${at}/tests`, rafael, { status: 'failed', summary: { passed: 1, failed: 2 } })
  await request('PATCH', `${at}/dod/${one}`, alice, { completed: true })
  await request('POST', `${at}/tests`, rafael, { status: 'passed', summary: { passed: 3, failed: 0 } })
  await post('rafael', rafael, 'It is done')
  await request('PATCH', at, admin, { status: 'qa' })
  // Events are 20 s apart; the last one is 20 s old.
  const times = await retell(instance, database, alice, id, (n, of) => (of - n) / 3)
  await database.query(`update missions set created_at = now() at time zone 'utc' - interval '1 hour' where id = $1`, [
    id,
  ])
  return { id, number, at, times, post }
}

void t.test('timeline: applying events one by one gives the state that the server returns for each time', async (t) => {
  const { id, number, at, post } = await makeStory()
  await post('rafael', rafael, 'More')
  const items = (await request('GET', `${at}/dod`, alice)).json['items'] as Json[]
  await request('DELETE', `${at}/dod/${String(items[1]?.['id'])}`, admin)
  await request(
    'PATCH',
    `${at}/tests/${String((await request('GET', `${at}/tests/latest`, alice)).json['id'])}`,
    rafael,
    {
      status: 'failed',
    },
  )
  await request('DELETE', `${at}/chat/rafael`, admin)
  await post('rafael', alice, 'Again')
  await post('sofia', alice, 'Elsewhere')
  await post('rafael', rafael, 'And on')
  const ask = async (title: string): Promise<string> =>
    `${at}/requests/${String((await request('POST', `${at}/requests`, rafael, { kind: 'approve', title })).json['id'])}`
  const [answered, withdrawn] = [await ask('Deploy?'), await ask('Never mind?')]
  await request('POST', `${answered}/answer`, alice, { answer: true })
  await request('POST', `${withdrawn}/withdraw`, rafael)
  const deck = connect({ url: instance.url, token: alice })
  t.teardown(deck.close)
  const stateOf = async (time: string): Promise<MissionAt> => {
    const [mission, { items }, run, { requests }, { messages, has_more }] = await Promise.all([
      deck.mission(number).get({ at: time }),
      deck.dod(id).list({ at: time }),
      deck
        .tests(id)
        .latest({ at: time })
        .catch(() => undefined),
      deck.requests(id).list({ at: time }),
      deck.chat(id, 'rafael').history({ at: time }),
    ])
    return { mission, items, run, requests: requests.reverse(), citizen: 'rafael', messages, older: has_more }
  }
  const events = []
  for await (const event of deck.replay(id)) events.push(event)
  t.equal(events.length, 17, 'the cleared messages are gone')
  const [first] = events
  let then = await stateOf(first?.at ?? '')
  for (const event of events.slice(1)) {
    then = apply(then, event)
    t.strictSame(then, await stateOf(event.at), `${event.event} ${event.seq}`)
  }
  t.same(
    then.messages.map(({ message }) => message),
    ['Again', 'And on'],
  )
})

test('timeline: lists every event, adds new ones live, and loads older ones without a jump', async (t) => {
  const { id, number } = await makeMission(instance)
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message) select $1, 'emma', 'user', 'message ' || n from generate_series(1, 300) n`,
    [id],
  )
  const page = await open(t, `${number}/emma/timeline`)
  await page.locator('.event', { hasText: 'message 300' }).waitFor()
  await page.locator('.time-machine .tolive', { hasText: 'Live' }).waitFor()
  // Scrolled to the end, it shows each new event.
  await request('POST', `/api/missions/${id}/dod`, rafael, { text: 'A new item', category: 'tests' })
  await page.locator('.event', { hasText: 'new: A new item' }).waitFor()
  await database.query(`update missions set status = 'qa' where id = $1`, [id])
  await page.locator('.event', { hasText: 'is In QA' }).waitFor()
  const rest = () =>
    page.evaluate<number>(
      `(({ scrollHeight, scrollTop, clientHeight }) => scrollHeight - scrollTop - clientHeight)(document.querySelector('.events'))`,
    )
  await until(async () => (await rest()) < 2, 'the timeline to stay at its end')

  // Upwards: visible rows stay in place while older events are loaded above them.
  const where = (text: string) =>
    page.evaluate<number | null>(
      `((row) => row && Math.round(row.getBoundingClientRect().top))([...document.querySelectorAll('.event')].find((row) => row.textContent.includes(${JSON.stringify(text)})))`,
    )
  const first = (await texts(page))[0] ?? ''
  await page.evaluate(`document.querySelector('.events').scrollTop = 200`)
  const before = await where(first)
  await until(async () => (await texts(page))[0] !== first, 'older events')
  await frames(page)
  const after = await where(first)
  t.ok(before !== null && after !== null && Math.abs(after - before) <= 2, `${first} stays: ${before}, ${after}`)
  await until(async () => {
    await page.evaluate(`document.querySelector('.events').scrollTop = 0`)
    return /message 1$/.test((await texts(page))[0] ?? '')
  }, 'the first event')
  const all = await texts(page)
  t.equal(all.length, 302)
  t.same(
    all.slice(0, 300).map((text) => Number(/message (\d+)$/.exec(text)?.[1])),
    Array.from({ length: 300 }, (_, n) => n + 1),
    'each once, in order',
  )

  // A message's button opens the chat at that message.
  await page
    .locator('.event', { hasText: 'message 7' })
    .first()
    .getByRole('button', { name: /current state/ })
    .click()
  await page.locator('.row.found', { hasText: 'message 7' }).waitFor()
})

test('time machine: shows the state and the chat of a past time, marked as past, without inputs', async (t) => {
  const { number, times, post } = await makeStory()
  const page = await open(t, `${number}/rafael/timeline`)
  await page
    .locator('.event', { hasText: 'is now In QA' })
    .or(page.locator('.event', { hasText: 'is In QA' }))
    .waitFor()
  await page.locator('#composer').waitFor()
  t.equal(await page.locator('.past').count(), 0)
  // The fourth event: two messages, two items, no run.
  await page.locator('.event', { hasText: 'I have begun' }).locator('.when').click()
  await page.waitForURL(`**/rafael/timeline/${times[3]?.replace('Z', '')}*`)
  const state = page.locator('.state')
  await state.getByText('0/2').waitFor()
  await state.getByText('No test runs yet').waitFor()
  await state.getByText('Active').waitFor()
  t.same(await page.locator('.past-messages .markdown').allInnerTexts(), ['Can you begin?', 'I have begun'])
  t.same((await texts(page)).length, 4, 'the events up to that time')
  // The view is marked as past and has no input.
  t.match(await page.locator('.past-mark').innerText(), /The past/)
  t.match(await page.locator('.past-foot').innerText(), /you can’t write here/)
  t.equal(await page.locator('textarea, .panel input[type=checkbox], .panel form').count(), 0)
  // New events do not show in a past view. They are there after the return to the present.
  await post('rafael', rafael, 'Meanwhile')
  await page.locator('.time-machine').getByLabel('Next event').click()
  await state.getByText('failed').waitFor()
  await state.getByText('1/3').waitFor()
  await page.keyboard.press('.')
  await state.getByText('1/2').waitFor()
  await page.keyboard.press(',')
  await state.getByText('0/2').waitFor()
  t.equal(await page.getByText('Meanwhile').count(), 0)
  // A different citizen's chat at the same time.
  await page.locator('.crewman', { hasText: 'Sofia' }).click()
  await page.waitForURL('**/sofia/timeline/2*')
  await page.locator('.past-messages', { hasText: 'No messages with Sofia by then' }).waitFor()
  await page.keyboard.press('Escape')
  await page.waitForURL('**/sofia/timeline')
  await page.locator('#composer').waitFor()
  await page.locator('.event', { hasText: 'Meanwhile' }).waitFor()
  t.equal(await page.locator('.past, .state').count(), 0)
})

test('time machine: arrow keys move the slider, and a replay advances the state, pauses, and ends live', async (t) => {
  const { number, times } = await makeStory()
  const page = await open(t, `${number}/rafael/timeline`)
  await page.locator('.event').first().waitFor()
  const slider = page.getByLabel('Time of the mission')
  const value = async () => Number(await slider.inputValue())
  t.equal(await value(), 1000)
  await slider.focus()
  await page.keyboard.press('PageDown')
  await page.locator('.past-mark').waitFor()
  t.ok((await value()) <= 900)
  const last = await value()
  await page.keyboard.press('ArrowLeft')
  await until(async () => (await value()) === last - 1, 'a step to the left')
  await page.keyboard.press('Home')
  const state = page.locator('.state')
  await page.locator('.past-messages', { hasText: 'No messages with' }).waitFor()
  await state.getByText('0/0').waitFor()
  t.match(await slider.getAttribute('aria-valuetext'), /\d{4}/)

  // The events arrive in order, each with its state.
  await page.getByLabel('Speed').selectOption('30')
  await slider.focus()
  await page.keyboard.press('Space')
  await page.getByRole('button', { name: 'Pause' }).waitFor()
  await state.getByText('0/2').waitFor()
  await page.locator('.past-messages', { hasText: 'Can you begin?' }).waitFor()
  await page.keyboard.press('Space')
  await page.getByRole('button', { name: 'Play' }).waitFor()
  const paused = await value()
  t.ok(paused > 0 && paused < 1000, `paused at ${paused}`)
  await page.waitForURL('**/rafael/timeline/2*')
  const shown = (await texts(page)).length
  t.ok(shown >= 3 && shown < times.length, `${shown} events so far`)
  // A replay from the beginning to the end.
  await page.keyboard.press('Escape')
  await page.waitForURL('**/rafael/timeline')
  await page.getByLabel('Speed').selectOption('60')
  await page.getByRole('button', { name: 'Play' }).click()
  await state.getByText('2/3').or(state.getByText('1/3')).waitFor()
  await state.getByText('3/3').waitFor({ timeout: 15_000 })
  await page.locator('#composer').waitFor()
  await page.waitForURL('**/rafael/timeline')
  t.equal(await page.locator('.past, .state').count(), 0, 'live again')
  t.equal(await value(), 1000)
})

test('time machine: the address contains the time, Back leaves it, and a time before the mission is explained', async (t) => {
  const { number, times } = await makeStory()
  const page = await open(t, `${number}/rafael/timeline`)
  await page.locator('.event').first().waitFor()
  await page.locator('.event .when').first().click()
  await page.waitForURL('**/rafael/timeline/2*')
  await page.locator('.past-messages', { hasText: 'Can you begin?' }).waitFor()
  await page.goBack()
  await page.waitForURL('**/rafael/timeline')
  await page.locator('#composer').waitFor()
  await page.goForward()
  await page.locator('.past-mark').waitFor()
  await page.locator('.past-messages', { hasText: 'Can you begin?' }).waitFor()
  await page.reload()
  await page.locator('.past-messages', { hasText: 'Can you begin?' }).waitFor()

  await page.goto(`${instance.url}/deck/missions/${number}/rafael/timeline/2001-01-01T00:00:00Z`)
  await page.getByRole('alert').filter({ hasText: 'Too early' }).waitFor()
  await page.keyboard.press('Escape')
  await page.locator('#composer').waitFor()
  // A return to the page opens the present.
  await page.goto(`${instance.url}/deck/missions/${number}/rafael/timeline/${times[2]}`)
  await page.locator('.state').waitFor()
  await page.goto(`${instance.url}/`)
  await page.waitForURL('**/rafael/timeline')
  await page.locator('#composer').waitFor()
  const chats = (await request('GET', `/api/missions/${number}/chat`, alice)).json['channels'] as Json[]
  t.equal(chats[0]?.['last_seq'], 3, 'nothing was written')
})
