// Signing in in a real Chromium, without a token in the address: by invite, in all tabs of the browser, with renewals, and out again.
import { readFileSync } from 'node:fs'
import t from 'tap'
import type { Page } from 'playwright-core'
import { examine } from './axe.ts'
import { browserTests } from './browser.ts'
import { admin, alice, startDeck, startInstance, until } from '../support/server.ts'
import { invite } from '../support/sign-in.ts'

const { instance, database } = await startDeck(t)
await database.query(
  readFileSync(new URL('../../db/seed.sql', import.meta.url), 'utf8').replaceAll('person1@scopelock.ai', 'alice'),
)
const { test, openUrl } = await browserTests(t, instance)
const chat = `${instance.url}/deck/missions/47/rafael`

const signedIn = (page: Page, sub: string): Promise<void> =>
  until(
    async () =>
      (await page.locator('.me span').count()) > 0 &&
      (await page.locator('.me span').first().innerText()) === sub &&
      (await page.locator('.side .light').innerText()).includes('live'),
    `to be signed in as ${sub}`,
  )
const question = (page: Page) => page.getByRole('dialog')

test('sign-in page: an invite signs in every tab of the browser, and signing out signs out every tab', async (t) => {
  const page = await openUrl(t, await invite(instance, admin, { sub: 'alice', role: 'user' }))
  t.strictSame(await examine(page), [], 'axe')
  await page.getByRole('button', { name: 'Sign in as alice' }).click()
  await signedIn(page, 'alice')
  t.equal(
    await page.getByText(/token expires|Your token/).count(),
    0,
    'a token that is renewed is not announced to end',
  )
  const tab = await page.context().newPage()
  await tab.goto(chat)
  await signedIn(tab, 'alice')
  await tab.locator('#composer').fill('hello from a session')
  await tab.keyboard.press('Enter')
  await until(
    async () =>
      (await database.query(`select author from chat_messages where message = 'hello from a session'`))[0]?.[
        'author'
      ] === 'alice',
    'the message',
  )
  t.notMatch(
    await tab.evaluate<string>('JSON.stringify(sessionStorage) + JSON.stringify(localStorage) + document.cookie'),
    /eyJ|deck_session/,
    'scripts see neither token nor cookie in the storage',
  )
  await page.getByRole('button', { name: 'Sign out' }).click()
  await page.getByLabel('Token').waitFor()
  await tab.getByText('Your session has ended.').waitFor()
  await tab.reload()
  await tab.getByLabel('Token').waitFor()
})

test('sign-in page: tokens are renewed before each reconnect, and an ended session shows the sign-in page', async (t) => {
  const page = await openUrl(t, await invite(instance, admin, { sub: 'bob', role: 'user', missions: '*' }))
  await page.getByRole('button', { name: 'Sign in as bob' }).click()
  await signedIn(page, 'bob')
  let renewed = 0
  page.on('request', (request) => request.url().endsWith('/auth/token') && renewed++)
  // After hours of sleep the page's token has expired: the server refuses it, and the page has another.
  await page.context().setOffline(true)
  await page.evaluate('dispatchEvent(new Event("offline"))')
  await page.locator('.side .light', { hasText: 'offline' }).waitFor()
  await page.context().setOffline(false)
  await page.evaluate('dispatchEvent(new Event("online"))')
  await signedIn(page, 'bob')
  t.ok(renewed > 0)
  t.equal((await instance.request('DELETE', '/api/people/bob/sessions', admin)).status, 204)
  await page.getByText('Your session has ended.').waitFor()
})

test('sign-in page: a link with a token does not replace the session until the reader agrees', async (t) => {
  const page = await openUrl(t, await invite(instance, admin, { sub: 'alice', role: 'user' }))
  await page.getByRole('button', { name: 'Sign in as alice' }).click()
  await signedIn(page, 'alice')
  const tab = await page.context().newPage()
  await tab.goto(`${chat}#token=${admin}`)
  await question(tab).waitFor()
  t.match(await question(tab).innerText(), /signed in as alice \(user\)[^]*signs you in as root \(admin\)/)
  await tab.getByRole('button', { name: 'Keep my session' }).click()
  await tab.reload()
  await signedIn(tab, 'alice')
  // A link of the same person changes nothing: the session can be renewed, and the token can't.
  await tab.goto(`${instance.url}/deck#token=${alice}`)
  await signedIn(tab, 'alice')
  t.equal(await tab.evaluate("sessionStorage.getItem('deck.token')"), null)
})

test('sign-in page: another person in the same browser takes over the open tabs', async (t) => {
  const page = await openUrl(t, await invite(instance, admin, { sub: 'alice', role: 'user' }))
  await page.getByRole('button', { name: 'Sign in as alice' }).click()
  await signedIn(page, 'alice')
  const tab = await page.context().newPage()
  await tab.goto(await invite(instance, admin, { sub: 'zoe', role: 'user', missions: '*' }))
  await tab.getByText('You are signed in as alice in this browser.').waitFor()
  await tab.getByRole('button', { name: 'Sign in as zoe' }).click()
  await signedIn(tab, 'zoe')
  await signedIn(page, 'zoe')
})

test('sign-in page: with a provider it has a button that leads there', async (t) => {
  const issuer = 'http://127.0.0.1:9'
  const provider = { issuer, clientId: 'x', clientSecret: '', subClaim: 'email', admins: new Set<string>() }
  const other = await startInstance(t, database.url, { provider: { ...provider, roleClaim: '', missionsClaim: '' } })
  const page = await openUrl(t, `${other.url}/deck/missions/47/rafael`)
  await page.getByRole('button', { name: 'Sign in with your organization' }).click()
  await page.getByRole('heading', { name: 'Sign-in is not possible right now' }).waitFor()
  t.equal(new URL(page.url()).searchParams.get('return'), '/deck/missions/47/rafael')
  t.strictSame(await examine(page), [], 'axe')
})
