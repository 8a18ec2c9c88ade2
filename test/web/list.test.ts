// A chat of 100,000 messages in a real Chromium: only messages near the window are in the document, visible rows do not move while
// earlier ones are loaded, and every message can be reached.
import t from 'tap'
import type { Page } from 'playwright-core'
import { openPage, startBrowser, without } from './browser.ts'
import { alice, makeMission, startDeck, until } from '../support/server.ts'

const count = 100_000
const { instance, database } = await startDeck(t)
const mission = await makeMission(instance)
await database.query(
  `insert into chat_messages (mission_id, citizen, sender, message, created_at)
   select $1, 'rafael', case n % 3 when 0 then 'user' else 'citizen' end,
     case n % 17 when 0 then E'line\n\n\`\`\`js\nconst n = ' || n || E'\n\`\`\`' else 'message ' || n || repeat(' and so on', n % 40) end,
     now() at time zone 'utc' - interval '1 minute' * (${count} - n)
   from generate_series(1, ${count}) n`,
  [mission.id],
)
const chat = `${instance.url}/deck/missions/${mission.number}/rafael`

/** Returns the rows in the window, and their positions. */
const visibleRows = (page: Page) =>
  page.evaluate<{ seqs: number[]; tops: number[]; rows: number; top: number; height: number }>(`(() => {
    const box = document.querySelector('.scroll')
    const { top: above, bottom } = box.getBoundingClientRect()
    const all = [...document.querySelectorAll('.track .row')].map((row) => [Number(row.dataset.seq), row.getBoundingClientRect()])
    const seen = all.filter(([, { top, bottom: end }]) => end > above && top < bottom)
    return { seqs: seen.map(([seq]) => seq), tops: seen.map(([, { top }]) => top - above), rows: all.length, top: box.scrollTop, height: box.scrollHeight }
  })()`)
const settled = (page: Page, fits: (seqs: number[]) => boolean, what: string): Promise<void> =>
  until(async () => fits((await visibleRows(page)).seqs), what)
const contiguous = (seqs: number[]): boolean =>
  seqs.length > 1 && seqs.every((seq, n) => n === 0 || seq === (seqs[n - 1] ?? 0) + 1)

void t.test('message list: 100,000 messages scroll without a jump', { skip: without }, async (t) => {
  const browser = await startBrowser(t)
  const page = await openPage(t, browser, `${instance.url}/#token=${alice}`)
  // Every message is read, so the chat opens at its end.
  const socket = await instance.connect(alice)
  await socket.ask({ type: 'read', topic: `missions/${mission.id}/chat/rafael`, seq: count })
  const asked: string[] = []
  page.on('request', (request) => void (request.url().includes('/chat/rafael?') && asked.push(request.url())))
  await page.goto(chat)
  await page.locator('.row').first().waitFor()
  await settled(page, (seqs) => seqs.at(-1) === count, 'the newest message')

  // Upwards with the wheel: in each step all rows that stay visible move as far as the wheel does.
  await page.mouse.move(700, 400)
  let last = await visibleRows(page)
  let least = Infinity
  for (let step = 0; step < 60; step++) {
    await page.mouse.wheel(0, -400)
    await until(async () => (await visibleRows(page)).seqs[0] !== last.seqs[0], 'the wheel')
    // After two frames estimated heights have been measured.
    await page.evaluate('new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))')
    const now = await visibleRows(page)
    const moves = now.seqs.flatMap((seq, n) => {
      const before = last.seqs.indexOf(seq)
      return before < 0 ? [] : [Math.round((now.tops[n] ?? 0) - (last.tops[before] ?? 0))]
    })
    t.ok(contiguous(now.seqs), `contiguous: ${now.seqs.join()}`)
    if (moves.length > 0 && (Math.min(...moves) < 396 || Math.max(...moves) > 404)) t.fail(`a jump: ${moves.join()}`)
    t.ok(now.rows <= 200, `${now.rows} rows at a time`)
    least = Math.min(least, now.seqs[0] ?? Infinity)
    last = now
  }
  t.ok(least < count - 100, 'it scrolled up')

  // A new message at the end moves no visible row.
  const before = await visibleRows(page)
  await instance.request('POST', `/api/missions/${mission.number}/chat/rafael`, alice, { message: 'from below' })
  await page.getByRole('button', { name: '1 new' }).waitFor()
  const after = await visibleRows(page)
  t.same([after.seqs, after.tops], [before.seqs, before.tops])

  // Jumps: to the beginning, to the middle, to a search result, and back.
  await page.evaluate(`document.querySelector('.scroll').scrollTop = 0`)
  await settled(page, (seqs) => seqs[0] === 1 && contiguous(seqs), 'the first message')
  await page.evaluate(
    `(() => { const box = document.querySelector('.scroll'); box.scrollTop = box.scrollHeight / 2 })()`,
  )
  await settled(page, (seqs) => contiguous(seqs) && Math.abs((seqs[0] ?? 0) - count / 2) < 10_000, 'the middle')
  await page.keyboard.press('/')
  await page.keyboard.type('"message 31234"')
  await page.locator('.results button', { hasText: 'message 31234' }).click()
  await settled(page, (seqs) => seqs.includes(31_234) && contiguous(seqs), 'the message of the search result')
  t.equal(await page.locator('.row.found').getAttribute('data-seq'), '31234')
  await page.keyboard.press('n')
  await settled(page, (seqs) => seqs.at(-1) === count + 1 && contiguous(seqs), 'the newest message again')
  t.ok((await visibleRows(page)).rows <= 200)
  t.ok(asked.length < 120, `${asked.length} requests`)
  // Nodes of messages that left the window are freed.
  const cdp = await page.context().newCDPSession(page)
  await cdp.send('HeapProfiler.collectGarbage')
  await cdp.send('Performance.enable')
  const { metrics } = await cdp.send('Performance.getMetrics')
  const figure = (name: string): number => metrics.find((one) => one.name === name)?.value ?? NaN
  t.ok(figure('Nodes') < 8000, `${figure('Nodes')} nodes`)
  t.comment(
    `${asked.length} requests, ${figure('Nodes')} nodes, heap of ${Math.round(figure('JSHeapUsedSize') / 1e6)} MB`,
  )
})
