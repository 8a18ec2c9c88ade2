// A sign-in link (…/#token=…) in a real Chromium: it never replaces a different subject's session unasked, and an invalid link ends
// no session. The token leaves the address at once.
import { readFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import type { Page } from 'playwright-core'
import { browserTests } from './browser.ts'
import { admin, alice, startDeck, token, until } from '../support/server.ts'

const { instance, database } = await startDeck(t)
await database.query(
  readFileSync(new URL('../../db/seed.sql', import.meta.url), 'utf8').replaceAll('person1@scopelock.ai', 'alice'),
)
const { test, openUrl } = await browserTests(t, instance)
const chat = `${instance.url}/deck/missions/47/rafael`

const kept = (page: Page): Promise<string | null> => page.evaluate("sessionStorage.getItem('deck.token')")
const signedIn = (page: Page, sub: string): Promise<void> =>
  until(
    async () =>
      (await page.locator('.me span').first().innerText()) === sub &&
      (await page.locator('.side .light').innerText()).includes('live'),
    `to be signed in as ${sub}`,
  )
/** Checks that the address and the history contain no token. */
const clean = async (t: Test, page: Page): Promise<void> => {
  await until(() => !page.url().includes('token'), 'the token to leave the address')
  t.notMatch(
    await page.evaluate<string>('location.href + JSON.stringify(history.state) + document.body.innerHTML'),
    /eyJ/,
  )
}
const question = (page: Page) => page.getByRole('dialog')

// In an open page, a link to the same address changes only the fragment. A link to a different address loads the page.
for (const [how, link] of [
  ['in an open page', `${chat}#token=${admin}`],
  ['that loads the page', `${instance.url}/deck/missions/48/emma#token=${admin}`],
] as const)
  test(`sign-in link: for a different subject ${how}, it asks whether to keep or switch the session`, async (t) => {
    const page = await openUrl(t, `${chat}#token=${alice}`)
    await signedIn(page, 'alice')
    await page.locator('#composer').fill('not yet sent')

    await page.goto(link)
    await question(page).waitFor()
    await clean(t, page)
    t.match(await question(page).innerText(), /signed in as alice \(user\)[^]*signs you in as root \(admin\)/)
    t.equal(await kept(page), alice)
    await signedIn(page, 'alice')
    await page.getByRole('button', { name: 'Keep my session' }).click()
    await question(page).waitFor({ state: 'detached' })
    await page.reload()
    await signedIn(page, 'alice')
    t.equal(await question(page).count(), 0, 'the answer is remembered')

    await page.goto(link)
    await question(page).waitFor()
    await page.keyboard.press('Escape')
    await question(page).waitFor({ state: 'detached' })
    t.equal(await kept(page), alice, 'Escape keeps the session')

    await page.goto(link)
    await page.getByRole('button', { name: 'Switch' }).click()
    await signedIn(page, 'root')
    await clean(t, page)
    t.equal(await kept(page), admin)
    await page.reload()
    await signedIn(page, 'root')
    t.equal(await question(page).count(), 0)
  })

test('sign-in link: signs in at once without a session, or with a session of the same subject', async (t) => {
  const page = await openUrl(t, instance.url)
  await page.getByLabel('Token').waitFor()
  await page.goto(`${instance.url}/deck#token=${alice}`)
  await signedIn(page, 'alice')
  await clean(t, page)

  const fresh = await token({ sub: 'alice', role: 'user' }, 3600)
  await page.goto(`${page.url()}#token=${fresh}`)
  await until(async () => (await kept(page)) === fresh, 'the fresh token')
  await signedIn(page, 'alice')
  await clean(t, page)

  // Signed out, and with an expired session.
  await page.getByRole('button', { name: 'Sign out' }).click()
  await page.getByLabel('Token').waitFor()
  await page.goto(`${page.url()}#token=${admin}`)
  await signedIn(page, 'root')
  const ended = await token({ sub: 'alice', role: 'user' }, -60)
  await page.evaluate(`sessionStorage.setItem('deck.token', '${ended}')`)
  await page.goto(`${instance.url}/deck/missions/48/emma#token=${admin}`)
  await signedIn(page, 'root')
  t.equal(await question(page).count(), 0)
})

test('sign-in link: an invalid or expired token does not end the session', async (t) => {
  const page = await openUrl(t, `${chat}#token=${alice}`)
  await signedIn(page, 'alice')
  const claims = (more: object): string => Buffer.from(JSON.stringify({ sub: 'alice', ...more })).toString('base64url')
  const never = 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
  const links: [name: string, token: string][] = [
    ['none', 'no-token'],
    ['empty', ''],
    ['ended', await token({ sub: 'alice', role: 'user' }, -60)],
    ["a different subject's, ended", await token({ sub: 'mallory', role: 'admin' }, -60)],
    ['forged', alice.replace(/\.[^.]*$/, `.${never}`)],
    [
      'with a name that is too long',
      `${claims({}).slice(0, 8)}.${claims({ sub: 'm'.repeat(600), exp: 1e10 })}.${never}`,
    ],
  ]
  for (const [name, bad] of links)
    for (const path of ['/deck/missions/47/rafael', '/deck/missions/48/emma']) {
      await page.goto(`${instance.url}${path}#token=${bad}`)
      await clean(t, page)
      await until(async () => (await kept(page)) === alice, `${name}: alice's token`)
      await signedIn(page, 'alice')
      t.equal(await question(page).count(), 0, name)
    }
})
