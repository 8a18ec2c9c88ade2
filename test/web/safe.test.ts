// Hostile messages are only shown, in a real Chromium. The page is accessible: axe finds no violation in any view, light and dark, narrow
// and wide.
import { readFileSync } from 'node:fs'
import t from 'tap'
import { examine } from './axe.ts'
import { openPage, startBrowser, without } from './browser.ts'
import { admin, alice, makeMission, startDeck, until } from '../support/server.ts'

const { instance, database } = await startDeck(t)
await database.query(
  readFileSync(new URL('../../db/seed.sql', import.meta.url), 'utf8').replaceAll('person1@scopelock.ai', 'alice'),
)
await database.query(
  `update missions set deadline = now() at time zone 'utc' + interval '1 day', status = 'qa' where number = 48`,
)
const browser = without ? undefined : await startBrowser(t)

const hostile = [
  '<script>hit()</script>',
  '<img src=x onerror=hit()>',
  '<svg/onload=hit()>',
  '<svg><script href="data:text/javascript,hit()" /></svg>',
  '<iframe srcdoc="<script>parent.hit()</script>"></iframe>',
  '<iframe src="javascript:parent.hit()"></iframe>',
  '<math><mtext></form><form><mglyph><style></math><img src onerror=hit()>',
  '<details open ontoggle=hit()>x</details>',
  '<input autofocus onfocus=hit()>',
  '<a href="javascript:hit()">a</a>',
  '<style>@import "//evil.example/x.css"; body { display: none }</style>',
  '<meta http-equiv="refresh" content="0;url=//evil.example">',
  '<base href="//evil.example/">',
  '<form action="//evil.example"><button>go</button></form>',
  '<object data="data:text/html,<script>hit()</script>"></object>',
  '<link rel=stylesheet href=//evil.example/x.css>',
  '[a link](javascript:hit())',
  '[a link](JaVaScRiPt:hit())',
  '[a link](&#106;avascript:hit())',
  '[a link](&#x6A;&#x61;vascript&colon;hit())',
  '[a link](java\tscript:hit())',
  '[a link](\u0001javascript:hit())',
  '[a link](vbscript:hit())',
  '[a link](data:text/html,<script>hit()</script>)',
  '[a link](//evil.example)',
  '[ref]\n\n[ref]: javascript:hit() "t"',
  '![an image](javascript:hit())',
  '![an image](https://evil.example/pixel.png)',
  '![x](x" onerror="hit())',
  '<javascript:hit()>',
  'javascript:hit()',
  '[x](https://example.org "\' onmouseover=\'hit()")',
  '[x](https://example.org/"onmouseover="hit())',
  '`<img src=x onerror=hit()>`',
  '```html"onload="hit()\n<script>hit()</script>\n```',
  '```"><img src=x onerror=hit()>\nx\n```',
  '| a | <img src=x onerror=hit()> |\n| - | - |\n| [x](javascript:hit()) | y |',
  '> <script>hit()</script>',
  '- [x] <img src=x onerror=hit()>',
  '&lt;script&gt;hit()&lt;/script&gt;',
  '&#60;img src=x onerror=hit()&#62;',
  '${hit()} {{hit()}} <%= hit() %>',
  '<!--><img src=x onerror=hit()>-->',
  '<![CDATA[<img src=x onerror=hit()>]]>',
  '"><script>hit()</script>',
  "';hit();//",
  '\u202e<script>hit()</script>',
  `${'>'.repeat(3000)} deep`,
  `${'['.repeat(3000)}x`,
  `${'*_'.repeat(2000)}x`,
  `${'- '.repeat(1500)}x`,
  '__proto__ constructor <b id=__proto__>',
  '<a id=hit name=hit>clobber</a>',
]

// Two runs to compare, and items with each kind of evidence.
await database.query(
  `update dod_items set test_name = case category when 'tests' then 'test_callback_handler' when 'non-functional' then 'test_later' end
   where mission_id = '47000000-0000-4000-8000-000000000047' and not completed and category <> 'functional'`,
)
await database.query(
  `insert into test_runs (mission_id, status, results) values ('47000000-0000-4000-8000-000000000047', 'failed',
     '[{"name": "test_send_message", "status": "failed", "error": "no answer"}, {"name": "test_callback_handler", "status": "passed"}]')`,
)

void t.test('security: hostile messages show as text and run nothing', { skip: without }, async (t) => {
  if (!browser) return
  const mission = await makeMission(instance, {
    title: '<img src=x onerror=hit()>',
    client: '"><script>hit()</script>',
  })
  const path = `/api/missions/${mission.number}`
  for (const message of hostile) {
    const block = { language: '"><script>hit()</script>', code: message }
    const { status } = await instance.request('POST', `${path}/chat/emma`, admin, {
      message,
      author: '<img src=x onerror=hit()>',
      ...(hostile.indexOf(message) % 2 ? { code_blocks: [block] } : {}),
    })
    t.equal(status, 201)
  }
  await instance.request('POST', `${path}/dod`, admin, {
    text: '<img src=x onerror=hit()>',
    category: 'tests',
    test_name: '<img src=x onerror=hit()>',
  })
  await instance.request('POST', `${path}/dod/complete`, admin, { override: '<script>hit()</script>' })
  await instance.request('POST', `${path}/tests`, admin, {
    status: 'failed',
    summary: { '<script>hit()</script>': '<img src=x onerror=hit()>' },
    results: [{ name: '<img src=x onerror=hit()>', status: 'failed', error: '<script>hit()</script>' }, 'x', null, 7],
    logs: '<script>hit()</script>\n',
  })

  const page = await openPage(t, browser, 'about:blank', { expected: /TrustedHTML/ })
  const foreign: string[] = []
  page.on('request', (request) => {
    if (!request.url().startsWith(instance.url)) foreign.push(request.url())
  })
  page.on('dialog', (dialog) => t.fail(`a dialog: ${dialog.message()}`))
  page.on('frameattached', () => t.fail('a frame'))
  await page.addInitScript(`hits = 0; hit = () => hits++; violations = []
    addEventListener('securitypolicyviolation', ({ violatedDirective, sample }) => violations.push(violatedDirective + ' ' + sample))`)
  await page.goto(`${instance.url}/deck/missions/${mission.number}/emma#token=${alice}`)
  const seen = new Set<string>()
  const then = new Date().toISOString()
  for (const view of ['chat', 'checklist', 'tests', 'code', 'timeline', `timeline/${then}`, 'search']) {
    if (view !== 'chat') await page.goto(`${instance.url}/deck/missions/${mission.number}/emma/${view}`)
    await page.locator('.track .row, .past-messages .row').first().waitFor()
    // Scrolls from the end of the chat to its beginning.
    if (view === 'chat') {
      await page.keyboard.press('n')
      await page.locator(`.track .row[data-seq="${hostile.length}"]`).waitFor()
    }
    for (let top = Infinity; top > 0 && view === 'chat';) {
      for (const text of await page.locator('.track .row .markdown').allInnerTexts()) seen.add(text)
      top = await page.evaluate<number>(
        `(() => { const box = document.querySelector('.scroll'); box.scrollTop -= 600; return box.scrollTop })()`,
      )
      await page.evaluate('new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))')
    }
    if (view === 'tests') await page.locator('.log', { hasText: '<script>hit()</script>' }).waitFor()
    if (view === 'checklist') await page.locator('.checklist', { hasText: '<img src=x onerror=hit()>' }).waitFor()
    if (view === 'timeline') await page.locator('.event', { hasText: '<img src=x onerror=hit()>' }).first().waitFor()
    if (view.startsWith('timeline/')) await page.locator('.state .state-items').waitFor({ state: 'attached' })
    if (view === 'search') {
      await page.locator('#find').fill('hit')
      await page.locator('.hit', { hasText: '<img src=x onerror=hit()>' }).first().waitFor()
    }
    if (view === 'code') await page.locator('.codes .code').first().waitFor()
    for (const link of await page.locator('.markdown a, .codes a').all())
      t.match(await link.getAttribute('href'), /^(https:\/\/|mailto:)/)
    const found = await page.evaluate<{ hits: number; violations: string[]; elements: string[] }>(`({ hits, violations,
      elements: [...document.querySelectorAll('#deck script, #deck img, #deck iframe, #deck style, #deck object, #deck form:not(.composer, .override), #deck base, #deck link, #deck meta, #deck svg:not(.icon), #deck [id=hit], #deck [srcdoc], #deck [action]')]
        .map((element) => element.outerHTML.slice(0, 200))
        .concat([...document.querySelectorAll('#deck *')].flatMap((element) => [...element.attributes].filter(({ name }) => name.startsWith('on')).map(({ name }) => name))) })`)
    t.same(found, { hits: 0, violations: [], elements: [] }, view)
    // The text is shown as it was written.
    if (view === 'chat') t.match(await page.locator('.head').innerText(), /<img src=x onerror=hit\(\)>/)
  }
  for (const text of ['<script>hit()</script>', '<img src=x onerror=hit()>', '<svg/onload=hit()>', "';hit();//"])
    t.ok(
      [...seen].some((one) => one.startsWith(text)),
      `shows ${text}`,
    )
  t.ok(seen.size >= hostile.length - 12, `${seen.size} different texts were shown`)
  t.same(foreign, [], 'no request to a different server')
  // The policy is active: Trusted Types refuse an assignment to innerHTML.
  await t.rejects(page.evaluate(`document.body.innerHTML = '<b>x</b>'`), /TrustedHTML/)
})

for (const [colorScheme, width, height] of [
  ['light', 1280, 800],
  ['dark', 1280, 800],
  ['light', 360, 740],
  ['dark', 360, 740],
] as const)
  void t.test(`accessibility: axe finds no violation, ${colorScheme}, ${width} px`, { skip: without }, async (t) => {
    if (!browser) return
    const page = await openPage(t, browser, instance.url, { colorScheme, viewport: { width, height } })
    const clean = async (name: string): Promise<void> => {
      t.same(await examine(page), [], name)
      const wide = await page.evaluate<number>('document.documentElement.scrollWidth')
      t.ok(wide <= width, `${name}: not wider than the window`)
    }
    await page.getByLabel('Token').waitFor()
    await clean('sign in')
    const path = '/api/missions/47/timeline?order=desc&limit=1'
    const last = (await instance.request('GET', path, alice)).json['events'] as { at: string }[]
    for (const [view, shows] of [
      ['rafael', '.row'],
      ['sofia/checklist', '.checklist label'],
      ['sofia/tests', '.log'],
      ['rafael/code', '.codes .code'],
      ['rafael/timeline', '.event'],
      [`rafael/timeline/${last[0]?.at}`, '.state .state-run'],
      ['sofia/search', '#find'],
    ] as const) {
      await page.goto(`${instance.url}/deck/missions/47/${view}#token=${alice}`)
      await page.locator(shows).filter({ visible: true }).first().waitFor()
      if (view.endsWith('checklist')) {
        await page.getByLabel('A notification arrives').click()
        await page.locator('.refused').waitFor()
      }
      if (view.endsWith('tests')) {
        await page.getByLabel('Compare with').selectOption({ index: 1 })
        await page.locator('.diff .change').first().waitFor()
      }
      if (view.endsWith('search')) {
        await page.locator('#find').fill('callback or buttons')
        await page.locator('.hit mark').first().waitFor()
      }
      if (view.includes('/timeline/')) for (const more of await page.locator('.state summary').all()) await more.click()
      await until(
        async () => (await page.locator('.light').filter({ visible: true }).innerText()).includes('live'),
        'to be live',
      )
      await clean(view)
    }
    await page.goto(`${instance.url}/deck/missions/47/rafael`)
    await page.locator('.row').first().waitFor()
    await page.locator('#search').fill('buttons')
    await page.locator('.results button').first().waitFor()
    await clean('search')
    await page.keyboard.press('Escape')
    if (width < 800) {
      await page.getByRole('button', { name: /^Missions/ }).click()
      await page.locator('.mission').first().waitFor()
      await clean('missions')
      await page.keyboard.press('Escape')
    }
    await page.keyboard.press('?')
    await page.getByRole('dialog').waitFor()
    await clean('help')
    // Only admins are asked for a reason.
    await page.goto(`${instance.url}/deck/missions/47/sofia/checklist#token=${admin}`)
    await page.getByRole('dialog').waitFor()
    await clean('a different account')
    await page.getByRole('button', { name: 'Switch' }).click()
    await page.getByLabel('A notification arrives').click()
    await page.getByRole('button', { name: /anyway/ }).click()
    await page.getByLabel(/Reason/).waitFor()
    await clean('override')
  })
