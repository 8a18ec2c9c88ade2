// Activity in the page: the steps of a reply while its writer works, on two instances, and folded at the stored message.
import t from 'tap'
import { connect } from '../../src/client/index.ts'
import { examine } from './axe.ts'
import { browserTests } from './browser.ts'
import { makeMission, rafael, startDeck, startInstance } from '../support/server.ts'

const { instance: one, database } = await startDeck(t)
const two = await startInstance(t, database.url)
const { test, open } = await browserTests(t, one)

test('activity: the page shows steps while a citizen works, and folds them at the stored message', async (t) => {
  const { number } = await makeMission(one)
  const deck = connect({ url: two.url, token: rafael })
  t.teardown(() => deck.close())
  const page = await open(t, `${number}/rafael`)
  await page.getByText(/^No messages with Rafael/).waitFor()
  const reply = deck.chat(number, 'rafael').stream()
  const draft = page.locator('[data-draft]')
  const steps = draft.locator('.steps li')
  const step = reply.activity('Reads the specification')
  await draft.getByText('is working').waitFor()
  t.match(await steps.allTextContents(), ['running: Reads the specification'])
  step.done()
  await draft.locator('li[data-status="done"]').waitFor()
  for (let n = 1; n <= 8; n++) reply.activity(`Looks at file ${n}`, n === 3 ? 'failed' : 'done')
  reply.activity('<b>Runs</b> \u202ethe tests')
  reply.write('It is ')
  await draft.getByText('is writing').waitFor()
  await steps.getByText('<b>Runs</b> [U+202E]the tests').waitFor()
  await draft.getByText('4 earlier steps').waitFor()
  t.equal(await steps.count(), 7)

  // A page that opens later shows the same.
  const late = await open(t, `${number}/rafael`)
  await late.locator('[data-draft] .steps').getByText('<b>Runs</b> [U+202E]the tests').waitFor()
  t.equal(await late.locator('[data-draft] .steps li').count(), 7)

  await reply.done({ message: 'It is green.', usage: { output_tokens: 340, model: 'large', more: { n: 1 } } })
  const row = page.locator('.track .row', { hasText: 'It is green.' })
  await row.waitFor()
  t.equal(await draft.count(), 0)
  const fold = row.locator('details')
  t.equal(await fold.locator('summary').innerText(), '10 steps, 1 failed')
  t.equal(await fold.locator('li').count(), 0, 'folded')
  await fold.locator('summary').focus()
  await page.keyboard.press('Enter')
  await fold.locator('li').first().waitFor()
  t.equal(await fold.locator('li').count(), 10)
  t.match(await fold.innerText(), /model large · output tokens 340$/)
  await page.keyboard.press('Enter')
  await fold.locator('li').first().waitFor({ state: 'detached' })
  await late.reload()
  await late.locator('.track .row summary', { hasText: '10 steps, 1 failed' }).waitFor()
})

test('activity: a draft that its writer abandons keeps its steps on the screen', async (t) => {
  const { number } = await makeMission(one)
  const deck = connect({ url: one.url, token: rafael })
  t.teardown(() => deck.close())
  const page = await open(t, `${number}/rafael`)
  await page.getByText(/^No messages with Rafael/).waitFor()
  const reply = deck.chat(number, 'rafael').stream()
  reply.activity('Runs the tests')
  await page.locator('[data-draft] .steps li').waitFor()
  await reply.abort()
  await page.locator('.row.stopped').getByText('Runs the tests').waitFor()
})

for (const colorScheme of ['light', 'dark'] as const)
  for (const viewport of [
    { width: 1280, height: 800 },
    { width: 360, height: 740 },
  ])
    test(`activity: steps are accessible and fit in ${colorScheme} at ${viewport.width} px`, async (t) => {
      const { number } = await makeMission(one)
      const deck = connect({ url: one.url, token: rafael })
      t.teardown(() => deck.close())
      const chat = deck.chat(number, 'rafael')
      const page = await open(t, `${number}/rafael`, undefined, { colorScheme, viewport })
      const stored = chat.stream()
      stored.activity('Reads the specification', 'done')
      stored.activity(`Opens ${'src/a/very/long/path'.repeat(5)}`, 'failed')
      await stored.done({ message: 'Stored.', usage: { output_tokens: 340 } })
      await page.locator('.track .row details summary').click()
      await page.locator('.track .row .steps li').first().waitFor()
      const reply = chat.stream()
      reply.activity('Reads the specification', 'done')
      reply.activity(`Opens ${'src/a/very/long/path'.repeat(5)}`, 'failed')
      reply.activity('Runs the tests')
      reply.write('Working on it.')
      await page.locator('[data-draft] .steps li[data-status="running"]').waitFor()
      await page.locator('[data-draft]').getByText('Working on it.').waitFor()
      t.strictSame(await examine(page), [])
      const overflow = await page.evaluate<number>('document.documentElement.scrollWidth - innerWidth')
      t.ok(overflow <= 0, `nothing is wider than the page (${overflow} px)`)
      const right = await page.evaluate<number>(
        `Math.max(...[...document.querySelectorAll('.doing')].map((line) => line.getBoundingClientRect().right))`,
      )
      t.ok(right <= viewport.width, `no line is cut off (${right} px)`)
      const shots = process.env['SHOTS']
      if (shots) await page.screenshot({ path: `${shots}/activity-${colorScheme}-${viewport.width}.png` })
      await reply.abort()
    })
