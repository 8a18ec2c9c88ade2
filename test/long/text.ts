// How long the page is held while it shows what is hard to show, on a CPU four times as slow: twelve messages of each kind on opening a
// chat, a dropped file of 40,000 lines, a growing draft of 12,000 characters. Quiet machine; the best of some rounds counts. By command:
//   npx tap --timeout=600 --reporter=tap test/long/text.ts
import t from 'tap'
import type { Page } from 'playwright-core'
import { connect } from '../../src/client/index.ts'
import { openPage, startBrowser, without } from '../web/browser.ts'
import { csv, draft, filled, heavy } from '../web/hostile.ts'
import { admin, alice, makeMission, rafael, startDeck, until } from '../helper.ts'

t.setTimeout(600_000)
const { instance, database } = await startDeck(t)
const rounds = Number(process.env['ROUNDS'] ?? 3)
const only = process.env['ONLY']

const watch = `tasks = [0]
  new PerformanceObserver((list) => { for (const { duration } of list.getEntries()) tasks.push(duration) }).observe({ type: 'longtask', buffered: true })`
const slow = async (page: Page): Promise<void> => {
  const cdp = await page.context().newCDPSession(page)
  await cdp.send('Emulation.setCPUThrottlingRate', { rate: 4 })
}
/** Nothing of the page has changed for some frames. */
const still = (page: Page): Promise<unknown> =>
  page.evaluate(`new Promise((done) => {
    let quiet = 0
    const observer = new MutationObserver(() => (quiet = 0))
    observer.observe(document, { childList: true, subtree: true, characterData: true })
    const frame = () => (quiet++ > 12 ? (observer.disconnect(), done()) : requestAnimationFrame(frame))
    frame()
  })`)
const longest = async (page: Page): Promise<number> => {
  await still(page)
  return page.evaluate<number>('Math.max(...tasks)')
}
const best = async (name: string, work: () => Promise<number>): Promise<number> => {
  if (only && !name.includes(only)) return 0
  const found: number[] = []
  for (let round = 0; round < rounds; round++) found.push(Math.round(await work()))
  t.comment(`${name}: ${found.join(', ')} ms; the best is ${Math.min(...found)}`)
  return Math.min(...found)
}

void t.test('what is hard to show', { skip: without }, async (t) => {
  const browser = await startBrowser(t)
  const open = async (path: string): Promise<Page> => {
    const page = await openPage(t, browser, 'about:blank')
    page.setDefaultTimeout(60_000)
    await page.addInitScript(watch)
    await page.goto(`${instance.url}/deck/missions/${path}#token=${alice}`)
    await page.locator('.list').waitFor()
    return page
  }
  // The same without messages: what opening the page costs by itself.
  const empty = await makeMission(instance)
  const warm = await open(`${empty.number}/emma`)
  const scene = async (texts: string[], path: (n: number) => string): Promise<number> => {
    const { id, number } = await makeMission(instance)
    for (const message of texts)
      await database.query(
        `insert into chat_messages (mission_id, citizen, sender, author, message) values ($1, 'rafael', 'user', 'root', $2)`,
        [id, message],
      )
    void path
    const page = await open(`${number}/emma`)
    await still(page)
    await slow(page)
    await page.evaluate('tasks.length = 1')
    await page.locator('.crewman', { hasText: 'Rafael' }).click()
    await page.locator('.track .row').first().waitFor()
    const held = await longest(page)
    await page.context().close()
    return held
  }
  await warm.context().close()
  const figures: Record<string, number> = {}
  for (const [name, text] of Object.entries(heavy))
    figures[name] = await best(`12 messages, ${name}`, () => scene(Array<string>(12).fill(text), String))
  figures['all'] = await best('12 messages, one of each', () => scene(Object.values(heavy).slice(0, 12), String))
  figures['plain'] = await best('12 messages of one word', () => scene(Array<string>(12).fill('word'), String))

  figures['csv'] = await best('a CSV of 40,000 lines is dropped and sent', async () => {
    const { number } = await makeMission(instance)
    const page = await open(`${number}/rafael`)
    await still(page)
    const data = await page.evaluateHandle(
      `((text) => { const data = new DataTransfer(); data.items.add(new File([text], 'a.csv')); return data })(${JSON.stringify(csv)})`,
    )
    await slow(page)
    await page.evaluate('tasks.length = 1')
    await page.locator('.composer').dispatchEvent('drop', { dataTransfer: data })
    await page.locator('.attached').waitFor()
    await page.locator('#composer').focus()
    await page.keyboard.press('Enter')
    await page.locator('.track .row .line').first().waitFor()
    const held = await longest(page)
    await page.context().close()
    return held
  })
  const citizen = connect({ url: instance.url, token: rafael })
  t.teardown(() => citizen.close())
  for (const [name, text] of [
    ['a draft of 12,000 characters', draft],
    ['a draft that never closes', filled('*a_', 9999)],
    ['a draft of one list', filled('- a **b** `c`\n', 9999)],
    ['a draft of code', `\`\`\`js\n${filled('const a = { b: "c" } // d\n', 9900)}`],
  ] as const)
    figures[name] = await best(name, async () => {
      const { number } = await makeMission(instance)
      const page = await open(`${number}/rafael`)
      await still(page)
      await slow(page)
      await page.evaluate('tasks.length = 1')
      const reply = citizen.chat(number, 'rafael').stream()
      for (let at = 0; at < text.length; at += 60) {
        reply.write(text.slice(at, at + 60))
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
      await until(
        async () =>
          page.evaluate<boolean>(
            `(document.querySelector('[data-draft] .markdown')?.textContent ?? '').length > ${text.length / 3}`,
          ),
        'the draft',
      )
      const held = await longest(page)
      await reply.abort().catch(() => {})
      await page.context().close()
      return held
    })
  t.comment(JSON.stringify(figures))
  t.ok(Object.keys(figures).length > 0)
  void admin
})
