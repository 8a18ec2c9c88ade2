// Measures how long the page's main thread is blocked by content that is slow to render, on a CPU throttled to a quarter: on opening a chat
// of twelve messages of a kind, on a dropped file of 40,000 lines, and by growing drafts. Prints the longest task: its time as the page
// sees it, and its CPU time, which other processes hardly change. The best of several rounds counts. Options: ONLY=csv ROUNDS=5. Run:
//   npx tap --timeout=900 --reporter=tap test/long/text.ts
import t from 'tap'
import type { Page } from 'playwright-core'
import { connect } from '../../src/client/index.ts'
import { openPage, startBrowser, without } from '../web/browser.ts'
import { csv, draft, filled, heavy } from '../web/hostile.ts'
import { alice, makeMission, rafael, startDeck } from '../support/server.ts'

t.setTimeout(900_000)
const { instance, database } = await startDeck(t)
const rounds = Number(process.env['ROUNDS'] ?? 3)
const only = process.env['ONLY'] ?? ''

const watch = `tasks = [0]
  new PerformanceObserver((list) => { for (const { duration } of list.getEntries()) tasks.push(duration) }).observe({ type: 'longtask', buffered: true })`
/** Resolves when the page has not changed for some frames. */
const still = (page: Page): Promise<unknown> =>
  page.evaluate(`new Promise((done) => {
    let quiet = 0
    const observer = new MutationObserver(() => (quiet = 0))
    observer.observe(document, { childList: true, subtree: true, characterData: true })
    const frame = () => (quiet++ > 12 ? (observer.disconnect(), done()) : requestAnimationFrame(frame))
    frame()
  })`)

type Held = { seen: number; cpu: number }
type Event = { name: string; ph: string; pid: number; tid: number; tdur?: number }

void t.test('rendering: prints the longest task for content that is slow to render', { skip: without }, async (t) => {
  const browser = await startBrowser(t)
  const open = async (path: string): Promise<Page> => {
    const page = await openPage(t, browser, 'about:blank')
    page.setDefaultTimeout(120_000)
    await page.addInitScript(watch)
    await page.goto(`${instance.url}/deck/missions/${path}#token=${alice}`)
    await page.locator('.list').waitFor()
    await still(page)
    return page
  }
  /** The longest task during some work, in ms. */
  const held = async (page: Page, work: () => Promise<unknown>): Promise<Held> => {
    const cdp = await page.context().newCDPSession(page)
    await cdp.send('Emulation.setCPUThrottlingRate', { rate: 4 })
    await page.evaluate('tasks.length = 1')
    await browser.startTracing(page, { categories: ['toplevel', 'devtools.timeline'] })
    await work()
    await still(page)
    const { traceEvents } = JSON.parse((await browser.stopTracing()).toString()) as { traceEvents: Event[] }
    const seen = await page.evaluate<number>('Math.max(...tasks)')
    await page.context().close()
    // The page's main thread is the thread on which its functions run.
    const main = traceEvents.find(({ name }) => name === 'FunctionCall')
    const tasks = traceEvents.filter(
      ({ name, pid, tid }) => /RunTask/.test(name) && pid === main?.pid && tid === main.tid,
    )
    return { seen, cpu: tasks.reduce((most, { tdur = 0 }) => Math.max(most, tdur / 1000), 0) }
  }
  const best = async (name: string, work: () => Promise<Held>): Promise<void> => {
    if (!name.includes(only)) return
    const found: Held[] = []
    for (let round = 0; round < rounds; round++) found.push(await work())
    const least = (kind: keyof Held): string => Math.min(...found.map((one) => one[kind])).toFixed(0)
    t.comment(`${name}: longest task ${least('seen')} ms, ${least('cpu')} ms of CPU`)
    t.ok(found.every(({ seen }) => seen < 5000))
  }

  const scene = async (texts: string[]): Promise<Held> => {
    const { id, number } = await makeMission(instance)
    for (const message of texts)
      await database.query(
        `insert into chat_messages (mission_id, citizen, sender, author, message) values ($1, 'rafael', 'user', 'root', $2)`,
        [id, message],
      )
    const page = await open(`${number}/emma`)
    return held(page, async () => {
      await page.locator('.crewman', { hasText: 'Rafael' }).click()
      await page.locator('.track .row').first().waitFor()
    })
  }
  await best('12 messages of one word', () => scene(Array<string>(12).fill('word')))
  await best('one message of each kind', () => scene(Object.values(heavy)))
  for (const [name, text] of Object.entries(heavy))
    await best(`12 messages of ${name}`, () => scene(Array<string>(12).fill(text)))

  await best('csv of 40,000 lines, dropped and sent', async () => {
    const { number } = await makeMission(instance)
    const page = await open(`${number}/rafael`)
    const data = await page.evaluateHandle(
      `((text) => { const data = new DataTransfer(); data.items.add(new File([text], 'a.csv')); return data })(${JSON.stringify(csv)})`,
    )
    return held(page, async () => {
      await page.locator('.composer').dispatchEvent('drop', { dataTransfer: data })
      await page.locator('.attached').waitFor()
      await page.locator('#composer').focus()
      await page.keyboard.press('Enter')
      await page.locator('.track .row .line').first().waitFor()
    })
  })
  const citizen = connect({ url: instance.url, token: rafael })
  t.teardown(() => citizen.close())
  for (const [name, text] of [
    ['draft of 12,000 characters', draft],
    ['draft that never closes', filled('*a_', 12_000)],
    ['draft of one list', filled('- a **b** `c`\n', 12_000)],
    ['draft of code', `\`\`\`js\n${filled('const a = { b: "c" } // d\n', 12_000)}`],
  ] as const)
    await best(name, async () => {
      const { number } = await makeMission(instance)
      const page = await open(`${number}/rafael`)
      const reply = citizen.chat(number, 'rafael').stream()
      return held(page, async () => {
        for (let at = 0; at < text.length; at += 60) {
          reply.write(text.slice(at, at + 60))
          await new Promise((resolve) => setTimeout(resolve, 20))
        }
        await page.locator('[data-draft] .markdown').waitFor()
      })
    })
})
