// Sofia's views in a real Chromium: evidence for checklist items and refusals without it, the comparison of two runs, and the
// search of a whole mission. Also in chats: dropped files, and the ways to unread messages and to code.
import t from 'tap'
import type { Page } from 'playwright-core'
import { browserTests } from './browser.ts'
import { admin, alice, makeMission, rafael, startDeck, until } from '../support/server.ts'

const { instance, database } = await startDeck(t)
const { request } = instance
const { test, open } = await browserTests(t, instance)

/** Inserts messages with the text and their number, from 1 on. */
const insertMessages = (mission: string, citizen: string, text: string, count: number) =>
  database.query(
    `insert into chat_messages (mission_id, citizen, sender, author, message)
     select $1, $2, 'user', 'root', $3 || ' ' || n from generate_series(1, $4::int) n`,
    [mission, citizen, text, count],
  )

test("checklist: an item shows its evidence and can't be checked without it, unless an admin gives a reason", async (t) => {
  const { id, number } = await makeMission(instance)
  const at = `/api/missions/${id}`
  await request('POST', `${at}/dod`, rafael, { text: 'No test', category: 'functional' })
  await request('POST', `${at}/dod`, rafael, { text: 'It answers', category: 'tests', test_name: 'test_answers' })
  const page = await open(t, `${number}/sofia/checklist`)
  const item = page.locator('.checklist li', { hasText: 'It answers' })
  await item.locator('.evidence', { hasText: /missing\s*test_answers is in no finished run yet/ }).waitFor()
  await item.getByLabel('It answers').click()
  await item
    .getByRole('alert')
    .filter({ hasText: 'Not ticked: its test test_answers is in no finished run yet' })
    .waitFor()
  await item.getByText('An admin may tick it').waitFor()
  t.equal(await item.getByLabel('It answers').isChecked(), false, 'the item is unchecked again')
  t.equal(await item.locator('textarea').count(), 0, 'users are not asked for a reason')
  await page.getByRole('button', { name: 'Mark all done' }).click()
  await page.getByRole('button', { name: 'Yes' }).click()
  await page.getByRole('alert').filter({ hasText: 'Not ticked' }).waitFor()
  await page.getByText('0/2', { exact: false }).first().waitFor()

  // New runs change the evidence.
  const fails = [{ name: 'test_answers', status: 'failed', error: 'no answer' }]
  const run = async (results: unknown) =>
    String((await request('POST', `${at}/tests`, rafael, { status: 'failed', results })).json['id'])
  await run(fails)
  await item.locator('.evidence', { hasText: /failing\s*test_answers failed in the run of/ }).waitFor()

  const root = await open(t, `${number}/sofia/checklist`, admin)
  const theirs = root.locator('.checklist li', { hasText: 'It answers' })
  await theirs.getByLabel('It answers').click()
  await theirs.getByRole('button', { name: /anyway/ }).click()
  const tick = theirs.getByRole('button', { name: 'Tick without evidence' })
  t.ok(await tick.isDisabled(), 'a reason is required')
  await theirs.getByLabel(/Reason/).fill('The test is wrong: <b>see #12</b>')
  await tick.click()
  await theirs.locator('.overridden', { hasText: 'ticked without evidence by root' }).waitFor()
  // Every user sees the override and its reason.
  await item.locator('.overridden', { hasText: '“The test is wrong: <b>see #12</b>”' }).waitFor()
  t.ok(await item.getByLabel('It answers').isChecked())
  await item.locator('.evidence', { hasText: 'fails since the run of' }).waitFor()
  await item.getByLabel('It answers').uncheck()
  await until(async () => (await item.locator('.overridden').count()) === 0, 'the override to go with the check mark')

  const passed = await run([{ name: 'test_answers', status: 'passed' }])
  await item.locator('.evidence', { hasText: /proved\s*test_answers passed in the run of/ }).waitFor()
  await item.getByLabel('It answers').check()
  await page.getByRole('button', { name: 'Mark all done' }).click()
  await page.getByRole('button', { name: 'Yes' }).click()
  await page.locator('.progress', { hasText: '2/2 100%' }).waitFor()
  await page.locator('.head .status', { hasText: 'In QA' }).waitFor()
  // The evidence leads to its run.
  await run([])
  await item.getByLabel('Show the run that has test_answers').click()
  await page.waitForURL('**/sofia/tests')
  await until(async () => (await page.getByLabel('Test run').inputValue()) === passed, 'the run that proves the item')
})

test('tests view: a comparison of two runs shows what fails now, what was fixed, and the messages in between', async (t) => {
  const { id, number } = await makeMission(instance)
  const tests = `/api/missions/${id}/tests`
  const result = (name: string, status: string, duration_ms = 10) => ({
    name,
    status,
    duration_ms,
    error: `${name} says why`,
  })
  await request('POST', tests, rafael, {
    status: 'failed',
    results: [
      result('a', 'passed'),
      result('b', 'failed'),
      result('c', 'failed'),
      result('d', 'passed'),
      result('e', 'passed'),
    ],
  })
  await insertMessages(id, 'rafael', 'word', 60)
  await request('POST', tests, rafael, {
    status: 'failed',
    results: [
      result('a', 'failed'),
      result('b', 'passed'),
      result('c', 'failed'),
      result('d', 'passed', 500),
      result('f', 'passed'),
    ],
  })
  await request('POST', `/api/missions/${id}/chat/rafael`, alice, { message: 'after both' })
  const page = await open(t, `${number}/sofia/tests`)
  await page.locator('.verdict').waitFor()
  await page.getByLabel('Compare with').selectOption({ index: 1 })
  const diff = page.locator('.diff')
  const part = (name: string) => diff.locator('section', { has: page.getByRole('heading', { name }) })
  t.match(await part('Newly failing').innerText(), /1\s+a\s+a says why/)
  t.match(await part('Fixed').innerText(), /1\s+b$/)
  t.match(await part('Still failing').innerText(), /1\s+c\s+c says why/)
  t.match(await part('Slower').innerText(), /d 10 → 500 ms/)
  t.match(await part('Added').innerText(), /f passed/)
  t.match(await part('Removed').innerText(), /e passed/)
  t.equal(await diff.locator('.between li').count(), 60)
  await diff.locator('.between li button', { hasText: 'word 3' }).first().click()
  await page.waitForURL('**/rafael/tests')
  await page.locator('.row.found', { hasText: 'word 3' }).waitFor()
  t.equal(await page.getByLabel('Compare with').count(), 1, 'the runs stay beside the chat')
  // A phone has no room for both: there the page opens the chat.
  await page.setViewportSize({ width: 360, height: 740 })
  await page.goto(`${instance.url}/deck/missions/${number}/sofia/tests`)
  await page.getByLabel('Compare with').selectOption({ index: 1 })
  await diff.locator('.between li button', { hasText: 'word 5' }).first().click()
  await page.waitForURL('**/rafael/chat')
  await page.locator('.row.found', { hasText: 'word 5' }).filter({ visible: true }).waitFor()
})

test('search: finds words in every chat, code, run and checklist item; a result opens its place', async (t) => {
  const { id, number } = await makeMission(instance)
  const at = `/api/missions/${id}`
  const post = (citizen: string, message: string) => request('POST', `${at}/chat/${citizen}`, admin, { message })
  await post('emma', 'The scope has a zebra in it')
  await insertMessages(id, 'emma', 'something else', 60)
  await post('maya', 'zebra zebra zebra')
  await post('rafael', 'Here:\n\n```python\nzebra = 1\n```')
  await request('POST', `${at}/dod`, rafael, { text: 'The zebra is striped', category: 'functional' })
  await request('POST', `${at}/tests`, rafael, {
    status: 'failed',
    results: [{ name: 'test_it', error: '<b>zebra</b> <script>hit()</script>' }],
  })
  await request('POST', `${at}/tests`, rafael, { status: 'passed' })
  const page = await open(t, `${number}/rafael`)
  await page.locator('.row').first().waitFor()
  await page.keyboard.press('s')
  await page.waitForURL('**/rafael/search')
  await page.locator('#find:focus').waitFor()
  await page.keyboard.type('zebra')
  const hits = page.locator('.hits li')
  await until(async () => (await hits.count()) === 6, 'all six results')
  t.same(new Set(await page.locator('.hits mark').allInnerTexts()), new Set(['zebra']))
  t.match(
    await hits.filter({ hasText: 'Test run' }).innerText(),
    /<b>zebra<\/b> <script>hit\(\)<\/script>/,
    'shown as text',
  )
  t.match(await hits.last().innerText(), /The scope has a zebra/, 'the newest first')
  await page.getByLabel('Order').selectOption('rank')
  await hits.first().filter({ hasText: 'zebra zebra zebra' }).waitFor()
  await page.getByLabel('Kind').selectOption('code')
  await until(async () => (await hits.count()) === 1, 'the result in code')
  t.match(await hits.innerText(), /python[^]*zebra = 1/)
  await page.getByLabel('Kind').selectOption('')
  const day = new Date(Date.now() - 86_400_000).toISOString().slice(0, 10)
  await page.getByLabel('to', { exact: true }).fill(day)
  await page.getByText('Nothing found').waitFor()
  await page.getByLabel('to', { exact: true }).fill('')
  await until(async () => (await hits.count()) === 6, 'all results again')

  await hits.filter({ hasText: 'The scope has' }).getByRole('button').click()
  await page.waitForURL('**/emma/search')
  await page.locator('.row.found', { hasText: 'The scope has' }).waitFor()
  await page.locator('.hits li', { hasText: 'striped' }).getByRole('button').click()
  await page.locator('.checklist li.found', { hasText: 'striped' }).waitFor()
  // Enter in a chat's search opens the mission's search. The run is not the newest one.
  await page.keyboard.press('/')
  await page.keyboard.type('zebra')
  await page.locator('.results mark').first().waitFor()
  await page.keyboard.press('Enter')
  await page.waitForURL('**/emma/search')
  await page.locator('.hits li', { hasText: 'Test run' }).getByRole('button').click()
  await page.locator('.verdict', { hasText: 'Failed' }).waitFor()
})

/** Drops files onto the composer. */
const drop = async (page: Page, files: { name: string; text: string }[]): Promise<void> => {
  const data = await page.evaluateHandle(
    `((files) => {
      const data = new DataTransfer()
      for (const { name, text } of files) data.items.add(new File([text], name))
      return data
    })(${JSON.stringify(files)})`,
  )
  await page.locator('.composer').dispatchEvent('dragover', { dataTransfer: data })
  await page.locator('.composer').dispatchEvent('drop', { dataTransfer: data })
}

test('composer: a dropped short file becomes a code block, a long one an attachment, and a binary one is refused', async (t) => {
  const { id, number } = await makeMission(instance, { github_url: 'https://github.com/mind-protocol/mission-9' })
  const page = await open(t, `${number}/rafael`)
  const area = page.locator('#composer')
  await area.fill('Look:')
  await drop(page, [{ name: 'short.py', text: 'print("```")\n' }])
  await until(async () => (await area.inputValue()).includes('py\nprint'), 'the block')
  t.equal(await area.inputValue(), 'Look:\n```py\nprint("```")\n```\n')
  const long = Array.from({ length: 300 }, (_, n) => `line ${n}`).join('\n')
  await drop(page, [{ name: 'long.log', text: long }])
  await page.locator('.attached', { hasText: 'long.log 300 lines' }).waitFor()
  await drop(page, [{ name: 'picture.png', text: 'a\0b' }])
  await page.getByText('picture.png is not a text.').waitFor()
  await drop(page, [{ name: 'huge.txt', text: 'x'.repeat(300 * 1024) }])
  await page.getByText('huge.txt is too large').waitFor()
  await page.locator('#composer').focus()
  await page.keyboard.press('Enter')
  await until(async () => (await page.locator('.track .row .code').count()) === 2, 'two blocks of code')
  const [row] = await database.query('select message, code_blocks from chat_messages where mission_id = $1', [id])
  t.same(row?.['code_blocks'], [
    { language: 'py', code: 'print("```")\n' },
    { language: 'log', code: long },
  ])
  // The chat's code, with a link to the repository.
  await page.goto(`${instance.url}/deck/missions/${number}/rafael/code`)
  await page.locator('.codes .code').nth(1).waitFor()
  const link = page.locator('.repo')
  t.equal(await link.getAttribute('href'), 'https://github.com/mind-protocol/mission-9')
  t.match(await link.getAttribute('rel'), /noopener/)
})

test('chat: opens at the first unread message; keys lead to it and to the newest', async (t) => {
  const { id, number } = await makeMission(instance)
  await insertMessages(id, 'inna', 'more of it, and\n\nmessage', 60)
  const socket = await instance.connect(alice)
  await socket.ask({ type: 'read', topic: `missions/${number}/chat/inna`, seq: 20 })
  const page = await open(t, `${number}/inna`)
  const inView = (text: string) =>
    page.evaluate<boolean>(
      `(() => { const { top, bottom } = document.querySelector('.scroll').getBoundingClientRect()
        return [...document.querySelectorAll('.track .row')].some((row) => { const at = row.getBoundingClientRect()
          return row.textContent.includes(${JSON.stringify(text)}) && at.top >= top - 1 && at.bottom <= bottom + 1 }) })()`,
    )
  await page.locator('.new').waitFor()
  await until(() => inView('message 21'), 'the first unread message')
  await page.keyboard.press('n')
  await until(() => inView('message 60'), 'the newest message')
  await page.keyboard.press('u')
  await until(() => inView('message 21'), 'the first unread message again')
  await page.getByRole('button', { name: 'Newest' }).click()
  await until(() => inView('message 60'), 'the newest message by its button')
})

test('layout: nothing is animated with reduced motion, and no view shifts while it loads', async (t) => {
  const { id, number } = await makeMission(instance)
  await request('POST', `/api/missions/${id}/dod`, rafael, { text: 'An item', category: 'tests', test_name: 'x' })
  await request('POST', `/api/missions/${id}/tests`, rafael, {
    status: 'failed',
    results: [{ name: 'x', status: 'failed' }],
  })
  await request('POST', `/api/missions/${id}/chat/rafael`, alice, { message: 'Hello' })
  const socket = await instance.connect(rafael)
  await socket.ask({ type: 'stream', topic: `missions/${number}/chat/rafael`, key: 'r', delta: 'I am' })
  const moving = `document.getAnimations().filter(({ playState }) => playState === 'running').length`
  for (const reducedMotion of ['reduce', 'no-preference'] as const) {
    const page = await open(t, `${number}/rafael`, alice, { reducedMotion })
    await page.locator('.dot.working').waitFor()
    const moves = await page.evaluate<number>(moving)
    t.equal(moves > 0, reducedMotion === 'no-preference', `${reducedMotion}: ${moves}`)
  }
  const page = await open(t, `${number}/rafael`)
  await page.addInitScript(`shift = 0
    new PerformanceObserver((list) => { for (const { value } of list.getEntries()) shift += value }).observe({ type: 'layout-shift', buffered: true })`)
  for (const [view, shows] of Object.entries({
    checklist: '.evidence',
    tests: '.log',
    timeline: '.event',
    [`timeline/${new Date().toISOString()}`]: '.state .state-run',
    search: '#find',
  })) {
    await page.goto(`${instance.url}/deck/missions/${number}/rafael/${view}`)
    await page.locator(shows).first().waitFor()
    await page.locator('.light', { hasText: 'live' }).filter({ visible: true }).waitFor()
    await page.evaluate('new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))')
    const shift = await page.evaluate<number>('shift')
    t.ok(shift < 0.05, `${view}: ${shift.toFixed(4)}`)
  }
})
