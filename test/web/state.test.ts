// What the page knows, and when: empty chats, what is unread, a connection that is away, and what is kept while one looks elsewhere.
import t, { type Test } from 'tap'
import type { Page } from 'playwright-core'
import { openPage, startBrowser, without } from './browser.ts'
import { admin, alice, makeMission, startDeck } from '../helper.ts'

const { instance } = await startDeck(t)
const { request } = instance
const browser = without ? undefined : await startBrowser(t)
const test = (name: string, work: (t: Test) => Promise<void>): void => void t.test(name, { skip: without }, work)
const open = async (t: Test, path: string, token = alice, options = {}): Promise<Page> => {
  if (!browser) throw new Error('no browser')
  return openPage(t, browser, `${instance.url}/deck/missions/${path}#token=${token}`, options)
}
const frames = (page: Page, count: number) =>
  page.evaluate(`new Promise((done) => { let left = ${count}
    const next = () => (left-- > 0 ? requestAnimationFrame(next) : done())
    next() })`)
/** The requests that a page makes from now on. */
const requestsOf = (page: Page): string[] => {
  const asked: string[] = []
  page.on('request', (one) => void (one.url().includes('/api/') && asked.push(one.url())))
  return asked
}

test('an idle chat without messages asks for nothing: one never written to, a cleared one, and what stands beside it', async (t) => {
  const { id, number } = await makeMission(instance)
  for (let n = 0; n < 30; n++)
    await request('POST', `/api/missions/${id}/chat/inna`, admin, { message: `will be cleared ${n}` })
  await request('DELETE', `/api/missions/${id}/chat/inna`, admin)
  for (const path of [
    'emma',
    'inna',
    'sofia/checklist',
    'sofia/tests',
    'sofia/code',
    'sofia/timeline',
    'sofia/search',
  ]) {
    const page = await open(t, `${number}/${path}`)
    await page.getByText(/^Nothing was said to/).waitFor()
    await page.locator('.light', { hasText: 'live' }).filter({ visible: true }).waitFor()
    // The timeline asks until its horizon is past the moment at which all topics were joined.
    await page.waitForLoadState('networkidle')
    const asked = requestsOf(page)
    await frames(page, 120)
    t.ok(asked.length <= 1, `${path}: ${asked.length} requests: ${asked.slice(0, 3).join(' ')}`)
    if (!path.includes('/')) {
      await request('POST', `/api/missions/${id}/chat/${path}`, admin, { message: 'the first message' })
      await page.locator('.track .row', { hasText: 'the first message' }).waitFor()
      t.ok(asked.length <= 1, `${path}: the first message comes by itself, with ${asked.length} requests`)
    }
    await page.context().close()
  }
})
