// mission-deck invite, login and logout: the first admin of a server, and a session of the command line.
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { deck, start } from '../support/cli.ts'
import { makeMission, secret, startDeck, until, type Json } from '../support/server.ts'
import { makeBrowser } from '../support/sign-in.ts'

const { instance, database } = await startDeck(t)
const config = await mkdtemp(join(tmpdir(), 'mission-deck-config-'))
t.teardown(() => rm(config, { recursive: true, force: true }))
const env = { XDG_CONFIG_HOME: config, DECK_URL: instance.url }
const file = join(config, 'mission-deck', 'sessions.json')
const wanted = (text: string): string => /http:\S+\/auth\/cli\?\S+/.exec(text)?.[0] ?? ''

await t.test('invite: the command line makes the first admin of a server on its database', async (t) => {
  const { code, out } = await deck(t, ['invite', 'boss@example.com', '--json', '--url', instance.url], {
    DATABASE_URL: database.url,
  })
  t.equal(code, 0)
  const { link, sub, role } = JSON.parse(out) as { link: string; sub: string; role: string }
  t.strictSame([sub, role], ['boss@example.com', 'admin'])
  const browser = makeBrowser(instance)
  t.equal((await browser.post(link)).status, 303)
  await makeMission(instance, { title: 'A' })
  const list = await instance.request('GET', '/api/people', await browser.token())
  t.match(list.json['people'], [{ sub: 'boss@example.com', role: 'admin', sessions: 1 }])
  const plain = await deck(t, ['invite', 'anna@example.com', 'user', '--missions', '47', '--url', instance.url], {
    DATABASE_URL: database.url,
  })
  t.match(plain, { code: 0, out: /^http\S+\/auth\/invite\?code=[\w-]{43}\n$/ })
  for (const args of [
    ['invite'],
    ['invite', 'x', 'root'],
    ['invite', 'x', '--days', '0'],
    ['invite', 'x', '--days', '366'],
    ['invite', 'x', '--url', 'ftp://x'],
  ])
    t.equal((await deck(t, args, { DATABASE_URL: database.url })).code, 2, args.join(' '))
  for (const args of [
    ['invite', 'x'.repeat(257)],
    ['invite', 'x', 'user', '--missions', 'all'],
    ['invite', 'No Citizen', 'citizen'],
  ])
    t.equal((await deck(t, args, { DATABASE_URL: database.url })).code, 1, args.join(' '))
})

await t.test('login: the browser confirms, and commands use the session that is kept with 0600', async (t) => {
  const { number } = await makeMission(instance, { assigned_to: 'anna@example.com' })
  const link = (
    await deck(t, ['invite', 'anna@example.com', 'user', '--url', instance.url], { DATABASE_URL: database.url })
  ).out
  const browser = makeBrowser(instance)
  t.equal((await browser.post(link.trim())).status, 303)
  const login = start(t, ['login', '--no-browser'], env)
  await until(() => wanted(login.err()) !== '', 'the address')
  const address = wanted(login.err())

  // A page of another person, or of nobody, gets no code.
  t.equal((await makeBrowser(instance).fetch(address)).status, 401)
  t.equal((await makeBrowser(instance).post(address)).status, 401)
  const foreign = await browser.fetch(address, { method: 'POST', headers: { origin: 'https://evil.example' } })
  t.equal(foreign.status, 403, 'CSRF')
  const page = await browser.fetch(address)
  t.match(await page.text(), /asks to sign in as anna@example\.com/)
  const confirmed = await browser.post(address)
  t.equal(confirmed.status, 303)
  const back = new URL(confirmed.headers.get('location') ?? '')
  t.equal(back.hostname, '127.0.0.1')
  // The code alone is worth nothing.
  const code = back.searchParams.get('code') ?? ''
  for (const verifier of ['x'.repeat(43), code]) {
    const stolen = await browser.post('/auth/cli/session', {
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ code, verifier }),
    })
    t.equal(stolen.status, 401)
  }
  t.equal((await makeBrowser(instance).post(`/auth/invite?code=${code}`)).status, 404, 'it is no invite')
  const forged = new URL(back)
  forged.searchParams.set('state', 'x')
  t.equal((await fetch(forged)).status, 404)
  t.equal((await fetch(back)).status, 200)
  t.match(await login.ended, { code: 0, out: /^signed in to http:\S+ as anna@example\.com\n$/ })
  t.equal((await stat(file)).mode & 0o777, 0o600)
  const kept = (JSON.parse(await readFile(file, 'utf8')) as Record<string, Json>)[instance.url]
  t.match(kept, { sub: 'anna@example.com', session: /^[\w-]{43}$/ })

  const said = await deck(t, ['say', String(number), 'rafael', 'hello', '--json'], env)
  t.equal(said.code, 0, said.err)
  const [row] = await database.query(`select author from chat_messages where message = 'hello'`)
  t.equal(row?.['author'], 'anna@example.com')

  const out = await deck(t, ['logout'], env)
  t.match(out, { code: 0, out: /^signed out of / })
  t.strictSame(JSON.parse(await readFile(file, 'utf8')), {})
  const session = { cookie: `deck_session=${String(kept?.['session'])}`, origin: instance.url }
  t.equal((await fetch(`${instance.url}/auth/token`, { method: 'POST', headers: session })).status, 401, 'it has ended')
  t.ok(await browser.token(), "the browser's session goes on")
  t.match(await deck(t, ['logout'], env), { code: 0, out: /^not signed in to / })
  t.match(await deck(t, ['say', String(number), 'rafael', 'x'], env), { code: 1, err: /mission-deck login/ })
})

await t.test('login: a session that an admin ended is reported, and a server that is away as well', async (t) => {
  const link = (
    await deck(t, ['invite', 'gone@example.com', 'user', '--url', instance.url], { DATABASE_URL: database.url })
  ).out
  const browser = makeBrowser(instance)
  await browser.post(link.trim())
  const login = start(t, ['login', '--no-browser'], env)
  await until(() => wanted(login.err()) !== '', 'the address')
  const { headers } = await browser.post(wanted(login.err()))
  await fetch(headers.get('location') ?? '')
  t.equal((await login.ended).code, 0)
  await database.query(`delete from deck.sessions where sub = 'gone@example.com'`)
  t.match(await deck(t, ['say', '1', 'rafael', 'x'], env), {
    code: 1,
    err: /the session has ended: run mission-deck login/,
  })
  const away = { XDG_CONFIG_HOME: config, DECK_URL: 'http://127.0.0.1:1', JWT_SECRET: secret }
  t.match(await deck(t, ['login', '--no-browser'], away), {
    code: 1,
    err: /no server answers at http:\/\/127\.0\.0\.1:1/,
  })
})
