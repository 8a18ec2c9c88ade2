// Figures of the Deck page: the time from Enter in one browser to the paint in a second one, on two instances; the page's memory after
// 10,000 messages; the time of the first paint, and the layout shift. Needs a quiet machine. Run:
//   npx tap --timeout=300 --reporter=tap test/long/web.ts
import t from 'tap'
import type { Page } from 'playwright-core'
import { connect } from '../../src/client/index.ts'
import { openPage, startBrowser, without } from '../web/browser.ts'
import { admin, alice, makeMission, startDeck, startInstance, until } from '../support/server.ts'

t.setTimeout(300_000)
const rounds = 200
const many = 10_000
const { instance: one, database } = await startDeck(t)
const two = await startInstance(t, database.url)

/** Runs in the page before its scripts: records each Enter, the first paint of each message, and layout shifts. */
const watch = `
  sent = []; painted = {}; shift = 0
  const now = () => performance.timeOrigin + performance.now()
  addEventListener('keydown', ({ key }) => key === 'Enter' && sent.push(now()), true)
  new MutationObserver(() => {
    const fresh = [...document.querySelectorAll('.track .row .markdown')].map((row) => row.textContent).filter((text) => !(text in painted))
    if (fresh.length === 0) return
    for (const text of fresh) painted[text] = 0
    requestAnimationFrame(() => {
      const { port1, port2 } = new MessageChannel()
      port1.onmessage = () => { for (const text of fresh) painted[text] = now() }
      port2.postMessage(0)
    })
  }).observe(document, { childList: true, subtree: true })
  new PerformanceObserver((list) => { for (const { value, hadRecentInput } of list.getEntries()) if (!hadRecentInput) shift += value })
    .observe({ type: 'layout-shift', buffered: true })`

const middle = (values: number[], part = 0.5): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length * part)] ?? NaN

void t.test('page: latency, first paint, layout shift and memory have limits', { skip: without }, async (t) => {
  const browser = await startBrowser(t)
  const mission = await makeMission(one)
  const at = `/deck/missions/${mission.number}/rafael`
  const open = async (url: string, token: string): Promise<Page> => {
    const page = await openPage(t, browser, 'about:blank')
    await page.addInitScript(watch)
    await page.goto(`${url}${at}#token=${token}`)
    await page.locator('.list').waitFor()
    return page
  }
  const [a, b] = [await open(one.url, alice), await open(two.url, admin)]

  await a.locator('#composer').focus()
  for (let n = 0; n < rounds; n++) {
    await a.keyboard.insertText(`round ${n}`)
    await a.keyboard.press('Enter')
    await until(async () => (await b.evaluate<number>(`painted['round ${n}'] ?? 0`)) > 0, `round ${n}`)
  }
  const sent = await a.evaluate<number[]>('sent')
  const seen = await b.evaluate<Record<string, number>>('painted')
  const took = sent.map((from, n) => (seen[`round ${n}`] ?? NaN) - from)
  t.equal(took.length, rounds)
  const ms = (value: number): string => `${value.toFixed(1)} ms`
  t.comment(`Enter in A to painted in B: median ${ms(middle(took))}, 95% ${ms(middle(took, 0.95))}, of ${rounds}`)
  t.ok(middle(took) < 500)

  const paint = `performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN`
  const first = await b.evaluate<number>(paint)
  const moved = await b.evaluate<number>('shift')
  t.comment(`first paint after ${ms(first)}; layout shift ${moved.toFixed(4)}`)
  t.ok(first < 1000)
  t.ok(moved < 0.05)

  const deck = connect({ url: one.url, token: alice, queue: { messages: many + 1 } })
  t.teardown(deck.close)
  const chat = deck.chat(mission.number, 'rafael')
  const begun = performance.now()
  await Promise.all(Array.from({ length: many }, (_, n) => chat.send(`message ${n} with **some** \`words\``)))
  await until(
    async () =>
      (await b.evaluate<string>('document.querySelector(".track").lastElementChild?.textContent ?? ""')).includes(
        `message ${many - 1} `,
      ),
    'all messages',
    60_000,
  )
  const seconds = (performance.now() - begun) / 1000
  const cdp = await b.context().newCDPSession(b)
  await cdp.send('HeapProfiler.collectGarbage')
  await cdp.send('Performance.enable')
  const { metrics } = await cdp.send('Performance.getMetrics')
  const figure = (name: string): number => metrics.find((one) => one.name === name)?.value ?? NaN
  const heap = figure('JSHeapUsedSize') / 1024 / 1024
  t.comment(
    `after ${many} messages more in ${seconds.toFixed(1)} s: heap ${heap.toFixed(1)} MB, ${figure('Nodes')} nodes, ${await b.locator('.row').count()} rows`,
  )
  t.ok(heap < 60)
})

void t.test('page: a replay of 6,000 events never blocks it for a second', { skip: without }, async (t) => {
  const browser = await startBrowser(t)
  const { id, number } = await makeMission(one)
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message) select $1, 'rafael', 'user', 'message ' || n from generate_series(1, 6000) n`,
    [id],
  )
  const owner = await database.connect()
  await owner.query(`begin;
    alter table chat_messages disable trigger user;
    update chat_messages set at = now() at time zone 'utc' - interval '20 ms' * (6050 - seq) where mission_id = '${id}';
    alter table chat_messages enable trigger user;
    commit`)
  await database.query(`update missions set created_at = now() at time zone 'utc' - interval '1 hour' where id = $1`, [
    id,
  ])
  const page = await openPage(t, browser, `${one.url}/deck/missions/${number}/rafael/timeline#token=${alice}`)
  await page.locator('.event').first().waitFor()
  await page.evaluate(
    `tasks = [0]; new PerformanceObserver((list) => { for (const { duration } of list.getEntries()) tasks.push(duration) }).observe({ type: 'longtask' })`,
  )
  await page.getByLabel('Speed').selectOption('60')
  const begun = performance.now()
  await page.getByRole('button', { name: 'Play' }).click()
  await page.locator('.past-mark').waitFor()
  await page.locator('#composer').waitFor({ timeout: 60_000 })
  const took = performance.now() - begun
  const longest = await page.evaluate<number>('Math.max(...tasks)')
  t.comment(
    `a replay of 6000 events at 60x in ${(took / 1000).toFixed(1)} s; the longest task of the page took ${longest} ms`,
  )
  t.ok(longest < 1000)
})
