// Runs in the page, on two instances: who has a run that was asked for, or that nobody does, and how it is cancelled.
import t, { type Test } from 'tap'
import type { Page } from 'playwright-core'
import { connect, type RunHandler } from '../../src/client/index.ts'
import { examine } from './axe.ts'
import { browserTests } from './browser.ts'
import { alice, makeMission, startDeck, startInstance, token, until } from '../support/server.ts'

const { instance: one, database } = await startDeck(t)
const two = await startInstance(t, database.url)
const { test, open } = await browserTests(t, one)
const sofia = await token({ sub: 'sofia', role: 'citizen' })

const startRunner = (t: Test, handler: RunHandler) => {
  const deck = connect({ url: two.url, token: sofia })
  deck.on('error', () => {})
  t.teardown(() => deck.close())
  void deck.citizen('sofia').run(handler)
  return deck
}
const runner = (page: Page) => page.locator('.runner')
const ask = (page: Page): Promise<void> => page.getByRole('button', { name: 'Run tests' }).click()
const cancel = (page: Page): Promise<void> => runner(page).getByRole('button', { name: 'Cancel' }).click()

test('runs: the page says that no runner is connected, and cancels the run', async (t) => {
  const { number } = await makeMission(one, { title: 'Nobody runs it' })
  for (const options of [
    { viewport: { width: 360, height: 740 }, colorScheme: 'dark' },
    { viewport: { width: 1280, height: 800 }, colorScheme: 'light' },
  ]) {
    const page = await open(t, `${number}/sofia/tests`, alice, options)
    await ask(page)
    await runner(page).getByText('waiting: no runner is connected').waitFor()
    t.strictSame(await examine(page), [])
    const [wide = 0, shown = 0] = await page.evaluate<number[]>('[document.documentElement.scrollWidth, innerWidth]')
    t.ok(wide <= shown, 'nothing is wider than the page')
    await cancel(page)
    await page.locator('.verdict', { hasText: 'Failed' }).waitFor()
    await page.locator('.reason', { hasText: 'cancelled by alice' }).waitFor()
    await runner(page).waitFor({ state: 'detached' })
    t.strictSame(await examine(page), [])
  }
})

test('runs: the page shows who has a run, live; a cancel reaches its runner on the other instance', async (t) => {
  const { id, number } = await makeMission(one, { title: 'Sofia runs it' })
  const page = await open(t, `${number}/sofia/tests`)
  await ask(page)
  await runner(page).getByText('waiting: no runner is connected').waitFor()
  let stopped = ''
  const deck = startRunner(t, async (_run, { log, signal }) => {
    await log('the first line\n')
    await new Promise((resolve) => signal.addEventListener('abort', resolve))
    stopped = String((signal.reason as Error).message)
    return { status: 'failed' }
  })
  await runner(page)
    .getByText(/^run by sofia since \d\d:\d\d:\d\d/)
    .waitFor()
  await page.locator('.log', { hasText: 'the first line' }).waitFor()
  t.strictSame(await examine(page), [])
  await cancel(page)
  await page.locator('.reason', { hasText: 'cancelled by alice' }).waitFor()
  t.equal(stopped, 'cancelled by alice')
  // The next run is finished by the runner; a runner that goes away leaves its run to the next.
  await page.locator('.verdict', { hasText: 'Failed' }).waitFor()
  await ask(page)
  await runner(page)
    .getByText(/^run by sofia/)
    .waitFor()
  deck.close()
  await until(async () => {
    await database.query(
      `update deck.tasks set lease_until = clock_timestamp() where mission_id = $1 and ended is null`,
      [id],
    )
    return /waiting/.test((await runner(page).textContent()) ?? '')
  }, 'the page to show that nobody has the run')
  startRunner(t, () => ({ status: 'passed', summary: { passed: 3 } }))
  await page.locator('.verdict', { hasText: 'Passed' }).waitFor()
  await runner(page).waitFor({ state: 'detached' })
})

test('runs: a run that a program started is shown as such, and can be cancelled', async (t) => {
  const { id, number } = await makeMission(one, { title: 'A CI runs it' })
  const page = await open(t, `${number}/sofia/tests`)
  await one.request('POST', `/api/missions/${id}/tests`, sofia, {})
  await runner(page).getByText('started by a program').waitFor()
  await cancel(page)
  await page.locator('.reason', { hasText: 'cancelled by alice' }).waitFor()
})
