// Expected behaviour of the page: a file that is dropped anywhere, Home and End, a run that stays while it is read, the focus,
// unknown addresses, and long words.
import t from 'tap'
import type { Page } from 'playwright-core'
import { connect } from '../../src/client/index.ts'
import { browserTests } from './browser.ts'
import { admin, alice, makeMission, rafael, startDeck, until } from '../support/server.ts'

const { instance, database } = await startDeck(t)
const { request } = instance
const { test, open } = await browserTests(t, instance)
const focused = (page: Page): Promise<string> =>
  page.evaluate<string>(`document.activeElement === document.body ? 'nothing'
    : [document.activeElement.id, document.activeElement.className, document.activeElement.textContent.trim().slice(0, 20)].join(' ')`)

test('composer: a file dropped anywhere is attached, does not open in the browser, and is kept for its chat', async (t) => {
  const { number } = await makeMission(instance)
  const page = await open(t, `${number}/rafael`)
  await page.getByText(/^No messages with/).waitFor()
  const url = page.url()
  for (const [selector, name] of [
    ['.list, .talk', 'one.log'],
    ['.side', 'two.log'],
    ['.head', 'three.log'],
  ] as const) {
    const prevented = await page.evaluate<boolean[]>(`(() => {
      const data = new DataTransfer()
      data.items.add(new File(['a line\\n'.repeat(300)], ${JSON.stringify(name)}))
      const at = document.querySelector(${JSON.stringify(selector)})
      return ['dragover', 'drop'].map((type) =>
        !at.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true })))
    })()`)
    t.same(prevented, [true, true], `${name}: the browser does not open it`)
    await page.locator('.attached li', { hasText: name }).waitFor()
  }
  t.equal(page.url(), url)
  await page.locator('.attached li', { hasText: 'two.log' }).getByRole('button').click()
  await page.locator('.crewman', { hasText: 'Emma' }).click()
  await page.getByLabel('Message to Emma').waitFor()
  t.equal(await page.locator('.attached li').count(), 0, 'a different chat has no files')
  await page.locator('.crewman', { hasText: 'Rafael' }).click()
  await page.locator('.attached li').nth(1).waitFor()
  await page.reload()
  await page.locator('.attached li').nth(1).waitFor()
  const names = `[...document.querySelectorAll('.attached li')].map((one) => one.textContent.split(' ')[0])`
  t.same(await page.evaluate<string[]>(names), ['one.log', 'three.log'])
  await page.locator('#composer').fill('With files')
  await page.keyboard.press('Enter')
  await page.locator('.track .row', { hasText: 'With files' }).waitFor()
  await page.reload()
  await page.locator('.track .row', { hasText: 'With files' }).waitFor()
  t.equal(await page.locator('.attached li').count(), 0, 'sent files are no longer attached')
})

test('message list: End shows the last message, and Home the first', async (t) => {
  const { id, number } = await makeMission(instance)
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message)
     select $1, 'rafael', 'user', 'message ' || n || repeat(E'\\n\\nand more of it', n % 12) from generate_series(1, 1500) n`,
    [id],
  )
  const socket = await instance.connect(alice)
  await socket.ask({ type: 'read', topic: `missions/${id}/chat/rafael`, seq: 1500 })
  const page = await open(t, `${number}/rafael`, alice, { reducedMotion: 'no-preference' })
  const inView = (seq: number) =>
    page.evaluate<boolean>(`(() => { const box = document.querySelector('.scroll').getBoundingClientRect()
      const at = document.querySelector('.track .row[data-seq="${seq}"]')?.getBoundingClientRect()
      return at !== undefined && at.bottom > box.top && at.top < box.bottom })()`)
  await page.locator('.track .row[data-seq="1500"]').waitFor()
  await page.locator('.scroll').focus()
  for (const [key, seq] of [
    ['Home', 1],
    ['End', 1500],
    ['Home', 1],
  ] as const) {
    await page.keyboard.press(key)
    await until(() => inView(seq), `${key} to show ${seq}`)
  }
})

test('tests view: a skipped test is not shown as passed', async (t) => {
  const { id, number } = await makeMission(instance)
  await request('POST', `/api/missions/${id}/tests`, rafael, {
    status: 'passed',
    results: ['skipped', 'passed', 'skip', 'todo', 'pending', 'failed'].map((status, n) => ({
      name: `test_${n}`,
      status,
    })),
  })
  const page = await open(t, `${number}/rafael/tests`)
  await page.locator('.results-list li').nth(5).waitFor()
  const results = await page.evaluate<string[]>(
    `[...document.querySelectorAll('.results-list li')].map((one) =>
      [one.querySelector('code').textContent, one.className, one.querySelector('.unseen').textContent].join(' '))`,
  )
  t.same(results, [
    'test_5 bad failed',
    'test_0  skipped',
    'test_1 ok passed',
    ...[2, 3, 4].map((n) => `test_${n}  skipped`),
  ])
})

test('tests view: the displayed run stays when a new run begins, and a button shows the new run', async (t) => {
  const { id, number } = await makeMission(instance)
  const run = (logs: string) => request('POST', `/api/missions/${id}/tests`, rafael, { status: 'failed', logs })
  await run('the log that is read')
  const page = await open(t, `${number}/rafael/tests`)
  await page.locator('.log', { hasText: 'the log that is read' }).waitFor()
  await run('another log')
  await page.getByText(/^A newer run: /).waitFor()
  t.match(await page.locator('.log').innerText(), /the log that is read/)
  await page.getByRole('button', { name: 'Show it' }).click()
  await page.locator('.log', { hasText: 'another log' }).waitFor()
  t.equal(await page.getByText(/^A newer run: /).count(), 0)
})

test('chat: an address without such a citizen is explained; a valid new citizen gets a chat', async (t) => {
  const { number } = await makeMission(instance)
  for (const name of ['Rafael', 'no citizen', '<b>', 'x'.repeat(40), '9lives']) {
    const page = await open(t, `${number}/${encodeURIComponent(name)}`)
    await page.getByText(`There is no citizen “${name}”`).waitFor()
    await page.locator('.crewman', { hasText: 'Inna' }).click()
    await page.getByText(/^No messages with Inna/).waitFor()
    await page.context().close()
  }
  const page = await open(t, `${number}/zoe`)
  await page.locator('.crewman.here', { hasText: 'Zoe' }).waitFor()
  await page.locator('#composer').fill('Hello Zoe')
  await page.keyboard.press('Enter')
  await page.locator('.track .row', { hasText: 'Hello Zoe' }).waitFor()
})

test('crew: a new citizen appears without a reload, with its unread count', async (t) => {
  const { id, number } = await makeMission(instance)
  const page = await open(t, `${number}/rafael`)
  await page.getByText(/^No messages with/).waitFor()
  await page.locator('.light', { hasText: 'live' }).filter({ visible: true }).waitFor()
  await request('POST', `/api/missions/${id}/chat/zoe`, admin, { message: 'I am new' })
  await page.locator('.crewman', { hasText: 'Zoe' }).locator('.badge', { hasText: '1' }).waitFor()
  await request('POST', `/api/missions/${id}/chat/zoe`, admin, { message: 'and go on' })
  await page.locator('.crewman', { hasText: 'Zoe' }).locator('.badge', { hasText: '2' }).waitFor()
  await page.locator('.crewman', { hasText: 'Zoe' }).click()
  await page.locator('.track .row', { hasText: 'and go on' }).waitFor()
})

test('checklist: a refusal disappears when its reason does', async (t) => {
  const { id, number } = await makeMission(instance)
  const at = `/api/missions/${id}`
  await request('POST', `${at}/dod`, rafael, { text: 'It answers', category: 'tests', test_name: 'test_answers' })
  const page = await open(t, `${number}/sofia/checklist`)
  for (const action of [
    () => page.getByLabel('It answers').click(),
    async () => {
      await page.getByRole('button', { name: 'Mark all done' }).click()
      await page.getByRole('button', { name: 'Yes' }).click()
    },
  ]) {
    await request('POST', `${at}/tests`, rafael, {
      status: 'failed',
      results: [{ name: 'test_answers', status: 'failed' }],
    })
    await page.locator('.evidence.failed').waitFor()
    await action()
    await page
      .getByRole('alert')
      .filter({ hasText: /ticked/ })
      .waitFor()
    await request('POST', `${at}/tests`, rafael, {
      status: 'passed',
      results: [{ name: 'test_answers', status: 'passed' }],
    })
    await page.locator('.evidence.passed').waitFor()
    await until(async () => (await page.locator('.refused').count()) === 0, 'the refusal to go')
  }
})

test('focus: is kept after Stop, a search result, the filter and Reset; Reset also moves a mission from QA to active', async (t) => {
  const { id, number } = await makeMission(instance, { title: 'Where the focus is' })
  const at = `/api/missions/${id}`
  await request('POST', `${at}/dod`, rafael, { text: 'An item', category: 'functional' })
  for (let n = 0; n < 3; n++) await request('POST', `${at}/chat/rafael`, alice, { message: `needle ${n}` })
  const citizen = connect({ url: instance.url, token: rafael })
  t.teardown(() => citizen.close())
  const reply = citizen.chat(id, 'rafael').stream()
  reply.write('I begin')
  const page = await open(t, `${number}/rafael/checklist`)
  const keeps = async (what: string): Promise<void> => {
    await until(async () => (await focused(page)) !== 'nothing', `the focus after ${what}`)
  }
  await page.locator('[data-draft]').getByRole('button', { name: 'Stop' }).focus()
  await page.keyboard.press('Enter')
  await until(() => reply.signal.aborted, 'the writer to receive the cancel request')
  t.match(await focused(page), /Stop/)
  await reply.done()
  await until(async () => (await page.locator('[data-draft]').count()) === 0, 'the draft to become a message')
  await keeps('the reply')

  await page.locator('#search').fill('needle 1')
  await page.locator('.results button', { hasText: 'needle' }).first().focus()
  await page.keyboard.press('Enter')
  await page.locator('.row.found').waitFor()
  await keeps('a hit')

  await page.locator('#filter').fill('Where the focus')
  await page.locator('#filter').press('Enter')
  await keeps('the filter')

  await page.getByRole('button', { name: 'Mark all done' }).click()
  await page.keyboard.press('Enter')
  await page.locator('.head .status', { hasText: 'In QA' }).waitFor()
  await until(async () => /Mark all done/.test(await focused(page)), 'the focus after Mark all done')
  await page.getByRole('button', { name: 'Reset' }).click()
  await page.keyboard.press('Enter')
  await page.locator('.progress', { hasText: '0/1' }).waitFor()
  await until(async () => /Reset/.test(await focused(page)), 'the focus after Reset')
  await page.locator('.head .status', { hasText: 'Active' }).waitFor()
  // Reset does not reopen a complete mission.
  await request('PATCH', at, admin, { status: 'complete' })
  await request('POST', `${at}/dod/reset`, alice)
  t.match((await request('GET', at, alice)).json, { status: 'complete' })
})

test('layout: a long word widens nothing, a date of a different year shows the year, and no citizen is shown as away', async (t) => {
  const word = 'Donaudampfschifffahrts'.repeat(10)
  const { id, number } = await makeMission(instance, { title: word, client: word, deadline: '2021-11-08T23:59:59Z' })
  await request('POST', `/api/missions/${id}/dod`, rafael, { text: word, category: 'functional' })
  await request('POST', `/api/missions/${id}/tests`, rafael, {
    status: 'failed',
    summary: { [word]: word },
    results: [{ name: word, status: 'failed', error: word }],
  })
  for (const width of [360, 1280])
    for (const view of ['chat', 'checklist', 'tests', 'timeline']) {
      const page = await open(t, `${number}/rafael/${view}`, alice, { viewport: { width, height: 700 } })
      await page.locator('.head h1', { hasText: word }).waitFor()
      await page.locator('.light', { hasText: 'live' }).filter({ visible: true }).waitFor()
      if (view !== 'chat') await page.locator('.panel', { hasText: word }).waitFor()
      const wide = await page.evaluate<string[]>(
        `[document.documentElement, ...document.querySelectorAll('main, .head, .chat, .panel, .talk')]
          .filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.tagName + '.' + one.className)`,
      )
      t.same(wide, [], `${view} at ${width} px`)
      t.match(await page.locator('.head time').innerText(), /due 8 Nov 2021/)
      t.notMatch(await page.locator('.crew').innerText(), /away/)
      await page.context().close()
    }
})
