// Content that is hard to show, in a real Chromium: texts that are slow to parse or lay out, long code, a growing draft, right-to-left text,
// tables. Also hard environments: forced colours, low windows, a phone's drawer. Work is counted, not timed.
import t, { type Test } from 'tap'
import type { Page } from 'playwright-core'
import { connect } from '../../src/client/index.ts'
import { openPage, startBrowser, without } from './browser.ts'
import { csv, draft, heavy } from './hostile.ts'
import { admin, alice, makeMission, rafael, startDeck, until } from '../support/server.ts'

t.setTimeout(900_000)
const { instance } = await startDeck(t)
const browser = without ? undefined : await startBrowser(t)
const test = (name: string, work: (t: Test) => Promise<void>): void =>
  void t.test(name, { skip: without, timeout: 300_000 }, work)
const open = async (t: Test, path: string, options = {}, script = ''): Promise<Page> => {
  if (!browser) throw new Error('no browser')
  const page = await openPage(t, browser, 'about:blank', options)
  page.setDefaultTimeout(60_000)
  if (script) await page.addInitScript(script)
  await page.goto(`${instance.url}/deck/missions/${path}#token=${alice}`)
  return page
}
const say = async (t: Test, mission: number, message: string, code_blocks?: object[]): Promise<void> => {
  const { status } = await instance.request('POST', `/api/missions/${mission}/chat/rafael`, admin, {
    message,
    ...(code_blocks ? { code_blocks } : {}),
  })
  t.equal(status, 201)
}
/** Runs a function, given as text, on the first matching element in the page. Resolves with its result. */
const of = <T>(page: Page, selector: string, work: string): Promise<T> =>
  page.evaluate<T>(`(${work})(document.querySelector(${JSON.stringify(selector)}))`)
/** Resolves when the messages have not changed for some frames. */
const still = (page: Page): Promise<unknown> =>
  page.evaluate(`new Promise((done) => {
    let quiet = 0
    new MutationObserver(() => (quiet = 0)).observe(document.querySelector('.list'), { childList: true, subtree: true, characterData: true })
    const frame = () => (quiet++ > 8 ? done() : requestAnimationFrame(frame))
    frame()
  })`)

/** Counts the elements that each frame adds to messages. */
const perFrame = `
  frames = []; let added = 0
  new MutationObserver((list) => {
    for (const { target, addedNodes } of list) for (const node of addedNodes) if (node.nodeType === 1)
      added += target.closest?.('.markdown') ? 1 + node.querySelectorAll('*').length : node.querySelectorAll('.markdown *').length
  }).observe(document, { childList: true, subtree: true })
  const frame = () => { frames.push(added); added = 0; requestAnimationFrame(frame) }
  frame()`

test('rendering: hostile messages add few elements in each frame and in all', async (t) => {
  const { number } = await makeMission(instance)
  for (const message of Object.values(heavy)) await say(t, number, message.trim())
  const page = await open(t, `${number}/rafael`, {}, perFrame)
  await page.locator('.track .row').first().waitFor()
  await still(page)
  const frames = await page.evaluate<number[]>('frames')
  t.ok(Math.max(...frames) <= 600, `${Math.max(...frames)} elements in one frame`)
  for (const [n, [name, text]] of Object.entries(heavy).entries()) {
    const message = page.locator(`[data-seq="${n + 1}"] .markdown`)
    const elements = await message.locator('*').count()
    t.ok(elements <= 1500, `${name}: ${elements} elements`)
    t.ok(
      (await message.innerText()).trim().length > 0 && (await message.locator('.source').count()) === 0,
      `${name}: is shown`,
    )
    if (elements < 3)
      t.equal((await message.innerText()).length >= Math.min(text.length, 9000), true, `${name}: the whole text`)
  }
  // Delimiters that never close are shown as text. A message with too many parts is shown as written, with a note, and can be copied in full.
  t.equal(await page.locator('[data-seq="1"] .markdown').innerText(), heavy['delimiters that open'])
  await page.locator('.row', { hasText: 'Shown as it was written' }).first().waitFor()
  t.equal(await page.locator('[data-seq="1"] .note').count(), 0)
  await t.resolves(page.locator('#composer').fill('The page still works'))
})

test('chat: with long messages it opens at the first unread one, and only visible messages count as read', async (t) => {
  const { number } = await makeMission(instance)
  await say(t, number, 'read before')
  const reader = connect({ url: instance.url, token: alice })
  t.teardown(() => reader.close())
  await reader.chat(number, 'rafael').read(1)
  for (let n = 0; n < 12; n++) await say(t, number, '- a line of a **list**\n'.repeat(300))
  const page = await open(t, `${number}/rafael`)
  await page.locator('.track .row').first().waitFor()
  await still(page)
  const top = await page.evaluate<number>(
    `document.querySelector('[data-seq="2"]').getBoundingClientRect().top - document.querySelector('.scroll').getBoundingClientRect().top`,
  )
  t.ok(top >= 0 && top < 200, `the first one is ${top} px below the top`)
  const { json } = await instance.request('GET', `/api/missions/${number}/chat`, alice)
  t.match(json['channels'], [{ citizen: 'rafael', unread: 12 }])
  // None of them was completely visible yet. At the end all were.
  await page.keyboard.press('n')
  await until(async () => {
    const { json } = await instance.request('GET', `/api/missions/${number}/chat`, alice)
    return (json['channels'] as { unread: number }[])[0]?.unread === 0
  }, 'all messages to be read')
})

test('code: of a file of 40,000 lines only the lines near the window are elements, and Copy copies all', async (t) => {
  const { number } = await makeMission(instance)
  const page = await open(t, `${number}/rafael`, { permissions: ['clipboard-read', 'clipboard-write'] })
  const data = await page.evaluateHandle(
    `((text) => { const data = new DataTransfer(); data.items.add(new File([text], 'a.csv')); return data })(${JSON.stringify(csv)})`,
  )
  await page.locator('.composer').dispatchEvent('drop', { dataTransfer: data })
  await page.locator('.attached', { hasText: 'a.csv' }).waitFor()
  await page.locator('#composer').focus()
  await page.keyboard.press('Enter')
  const code = page.locator('.track .row .code')
  await code.locator('.line').first().waitFor()
  t.ok((await code.locator('*').count()) < 200, `${await code.locator('*').count()} elements`)
  t.equal(await code.locator('.line').first().innerText(), '1,2\n')
  // At its end, the last line has its number.
  await of(page, '.track .code pre', '(pre) => { pre.scrollTop = pre.scrollHeight }')
  await code.locator('.line[data-line="40000"]').waitFor()
  t.ok((await code.locator('*').count()) < 200)
  const inside = await of<boolean>(
    page,
    '.line[data-line="40000"]',
    '(line) => { const box = line.closest("pre").getBoundingClientRect(); const { top, bottom } = line.getBoundingClientRect(); return top >= box.top && bottom <= box.bottom }',
  )
  t.ok(inside, 'the last line is in the window')
  await code.getByRole('button', { name: 'Copy csv code' }).click()
  await code.getByText('Copied').waitFor()
  t.equal(await page.evaluate<string>('navigator.clipboard.readText()'), csv)
  // A line that is too long continues in the next rows, under one number.
  await say(t, number, 'one line', [{ language: 'js', code: 'x'.repeat(100_000) }])
  const long = page.locator('[data-seq="2"] .code')
  await long.locator('.line').first().waitFor()
  t.ok((await long.locator('*').count()) < 200)
  t.equal(await long.locator('.line[data-line]').count(), 1)
})

test('draft: its complete parts are not parsed again while it grows, and each frame adds few elements', async (t) => {
  const { number } = await makeMission(instance)
  // Counts pattern matches, the main work of the parser.
  const count = `matches = 0; const exec = RegExp.prototype.exec
    RegExp.prototype.exec = function (text) { matches++; return exec.call(this, text) }`
  const page = await open(t, `${number}/rafael`, {}, `${perFrame}\n${count}`)
  await page.locator('.list').waitFor()
  const citizen = connect({ url: instance.url, token: rafael })
  t.teardown(() => citizen.close())
  const reply = citizen.chat(number, 'rafael').stream()
  await page.evaluate('matches = 0')
  const message = page.locator('[data-draft] .markdown')
  for (let at = 0; at < draft.length; at += 400) {
    reply.write(draft.slice(at, at + 400))
    if (at === 0) {
      await message.locator('.heading').first().waitFor()
      await of(page, '[data-draft] .markdown', '(element) => { element.firstElementChild.first = true }')
    }
    await page.evaluate('new Promise((done) => requestAnimationFrame(done))')
  }
  await until(async () => (await message.innerText()).includes('Step 39'), 'the last step')
  await still(page)
  t.ok(
    await of<boolean>(page, '[data-draft] .markdown', '(element) => element.firstElementChild.first'),
    'the first block is the same element',
  )
  t.equal(await message.locator('.heading').count(), 40)
  const frames = await page.evaluate<number[]>('frames')
  t.ok(Math.max(...frames) <= 600, `${Math.max(...frames)} elements in one frame`)
  const all = await message.locator('*').count()
  const made = frames.reduce((sum, one) => sum + one, 0)
  t.ok(made < 2 * all, `${made} elements made for ${all}`)
  const matches = await page.evaluate<number>('matches')
  t.ok(matches < 1_000_000, `${matches} matches of patterns`)
})

test('bidi characters: are visible in text and code, and have no effect', async (t) => {
  const { number } = await makeMission(instance)
  await say(
    t,
    number,
    'if \u202eadmin\u202c and \u2066x\u2069 `a\u202eb`\n\n> - \u202bquoted\n\n```js\nconst a = "\u202e// x\u2066"\n```',
  )
  const page = await open(t, `${number}/rafael`)
  const message = page.locator('[data-seq="1"]')
  await message.locator('.line').waitFor()
  const text = await message.innerText()
  t.notMatch(text, /[\u202a-\u202e\u2066-\u2069]/)
  for (const seen of [
    'if [U+202E]admin[U+202C] and [U+2066]x[U+2069] a[U+202E]b',
    '[U+202B]quoted',
    '"[U+202E]// x[U+2066]"',
  ])
    t.ok(text.includes(seen), seen)
})

test('bidi characters: are visible in names, titles, checklist, runs, code, timeline and search', async (t) => {
  const turned = '\u202eturned\u2066'
  const { number } = await makeMission(instance, { title: `Title ${turned}`, client: `Client ${turned}` })
  const at = `/api/missions/${number}`
  await instance.request('POST', `${at}/chat/rafael`, admin, {
    message: `zebra ${turned}\n\n\`\`\`js\nzebra ${turned}\n\`\`\``,
    author: turned,
  })
  await instance.request('POST', `${at}/dod`, admin, { text: `zebra ${turned}`, category: 'tests', test_name: turned })
  await instance.request('POST', `${at}/tests`, admin, {
    status: 'failed',
    results: [{ name: turned, status: 'failed', error: `zebra ${turned}` }],
    logs: `${turned}\n`,
  })
  const page = await open(t, `${number}/rafael`)
  for (const [view, shows] of [
    ['chat', '.track .line'],
    ['checklist', '.checklist label'],
    ['tests', '.results-list li'],
    ['code', '.codes .line'],
    ['timeline', '.event'],
    ['search', '#find'],
  ] as const) {
    if (view !== 'chat') await page.goto(`${instance.url}/deck/missions/${number}/rafael/${view}`)
    await page.locator(shows).first().waitFor()
    if (view === 'search') {
      await page.locator('#find').fill('zebra')
      await page.locator('.hit').first().waitFor()
    }
    if (view === 'tests') await page.locator('.log', { hasText: 'turned' }).waitFor()
    const text = await page.evaluate<string>('document.title + document.body.textContent')
    t.notMatch(text, /[\u202a-\u202e\u2066-\u2069]/, view)
    t.match(text, /\[U\+202E\]turned\[U\+2066\]/)
  }
})

test('log: in a growing log of 250 KB a new line changes only the end', async (t) => {
  const { number } = await makeMission(instance)
  const whole = 'a line of a log\n'.repeat(15_000)
  const { json } = await instance.request('POST', `/api/missions/${number}/tests`, rafael, {
    status: 'running',
    logs: whole,
  })
  const page = await open(t, `${number}/sofia/tests`)
  const log = page.locator('.log')
  await until(async () => (await log.textContent())?.length === whole.length, 'the log')
  await page.evaluate(`changed = 0; new MutationObserver((list) => {
    for (const { target, addedNodes } of list) changed += [target, ...addedNodes].reduce((sum, node) => sum + (node.nodeType === 3 ? node.data.length : 0), 0)
  }).observe(document.querySelector('.log'), { childList: true, subtree: true, characterData: true })`)
  for (let n = 0; n < 5; n++)
    await instance.request('POST', `/api/missions/${number}/tests/${String(json['id'])}/logs`, rafael, `more ${n}\n`, {
      'content-type': 'text/plain',
    })
  await log.filter({ hasText: 'more 4' }).waitFor()
  t.equal(await log.textContent(), `${whole}more 0\nmore 1\nmore 2\nmore 3\nmore 4\n`)
  const changed = await page.evaluate<number>('changed')
  t.ok(changed < 100_000, `${changed} characters were laid out again`)
  t.ok((await log.locator('*').count()) < 100)
  const end = await of<number>(
    page,
    '.log',
    '({ scrollHeight, scrollTop, clientHeight }) => scrollHeight - scrollTop - clientHeight',
  )
  t.ok(end < 24, 'its end is visible')
})

test('layout: a long title and a run of thousands of results leave the page usable', async (t) => {
  const { number } = await makeMission(instance, { title: 'w'.repeat(1000), client: 'c'.repeat(200) })
  await say(t, number, 'a message')
  await instance.request('POST', `/api/missions/${number}/tests`, admin, {
    status: 'failed',
    results: Array.from({ length: 10_000 }, (_, n) => ({ name: `test ${n}`, status: n % 2 ? 'passed' : 'failed' })),
  })
  const page = await open(t, `${number}/rafael/tests`, { viewport: { width: 1280, height: 700 } })
  await page.locator('.results-list li').first().waitFor()
  t.equal(await page.locator('.results-list li').count(), 200)
  await page.getByRole('button', { name: '9800 more results' }).click()
  await until(async () => (await page.locator('.results-list li').count()) === 400, 'more results')
  await page.setViewportSize({ width: 360, height: 700 })
  await page.goto(`${instance.url}/deck/missions/${number}/rafael`)
  await page.locator('.row').first().waitFor()
  t.ok((await of<number>(page, '.scroll', '({ clientHeight }) => clientHeight')) > 250)
  t.equal(await page.evaluate<boolean>('document.documentElement.scrollWidth <= innerWidth'), true)
})

test('right-to-left message: its blocks begin at the right, its code at the left', async (t) => {
  const { number } = await makeMission(instance)
  await say(
    t,
    number,
    'مرحبا بالعالم، هذا `npm run build` نص\n\nAnd English.\n\n- عنصر\n- آخر\n\n> اقتباس\n\n```js\nconst a = "שלום" // b\n```\n\n| اسم | قيمة |\n| - | - |\n| أ | ب |\n',
  )
  const page = await open(t, `${number}/rafael`)
  const message = page.locator('[data-seq="1"] .markdown')
  await message.locator('.line').waitFor()
  const direction = (selector: string): Promise<string> =>
    of<string>(page, `[data-seq="1"] .markdown ${selector}`, '(element) => getComputedStyle(element).direction')
  t.same(
    await Promise.all(
      ['p', 'p:nth-of-type(2)', 'ul', 'blockquote', '.table', 'td', '.code', '.line', 'p code'].map(direction),
    ),
    ['rtl', 'ltr', 'rtl', 'rtl', 'rtl', 'rtl', 'ltr', 'ltr', 'ltr'],
  )
  const { copy, name, box, line } = await of<Record<string, number>>(
    page,
    '[data-seq="1"] .markdown',
    `(element) => {
    const left = (selector) => element.querySelector(selector).getBoundingClientRect().left
    const range = document.createRange()
    range.selectNodeContents(element.querySelector('.line'))
    return { copy: left('figcaption button'), name: left('figcaption span'), box: left('pre'), line: range.getBoundingClientRect().left } }`,
  )
  t.ok((name ?? 0) < (copy ?? 0), 'the language is left of the button')
  t.ok((line ?? 0) - (box ?? 0) < 80, 'a line begins at the left')
  const bullet = await of<string>(
    page,
    '[data-seq="1"] .markdown',
    `(element) => {
    const { paddingLeft, paddingRight } = getComputedStyle(element.querySelector('ul'))
    return parseFloat(paddingRight) > parseFloat(paddingLeft) ? 'right' : 'left' }`,
  )
  t.equal(bullet, 'right')
})

test('table: keeps its words whole and scrolls sideways', async (t) => {
  const { number } = await makeMission(instance)
  const words = ['internationalization', 'responsibilities', 'acknowledgements', 'characteristically']
  await say(t, number, `| ${words.join(' | ')} |\n|${' - |'.repeat(4)}\n| ${words.join(' | ')} |\n`)
  await say(t, number, `| a |\n| - |\n| ${'w'.repeat(3000)} |\n\n${'w'.repeat(3000)}`)
  const page = await open(t, `${number}/rafael`, { viewport: { width: 360, height: 740 } })
  await page.locator('td').first().waitFor()
  for (const [n, word] of words.entries()) {
    const lines = await of<number>(
      page,
      `[data-seq="1"] td:nth-child(${n + 1})`,
      `(cell) => {
      const range = document.createRange()
      range.selectNodeContents(cell)
      return new Set([...range.getClientRects()].map(({ top }) => Math.round(top))).size }`,
    )
    t.equal(lines, 1, word)
  }
  const { inner, outer } = await of<Record<string, number>>(
    page,
    '[data-seq="1"] .table',
    '({ scrollWidth, clientWidth }) => ({ inner: scrollWidth, outer: clientWidth })',
  )
  t.ok((inner ?? 0) > (outer ?? 0), 'the table scrolls')
  t.equal(await of<boolean>(page, '.scroll', '({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth'), true)
  t.equal(await page.evaluate<boolean>('document.documentElement.scrollWidth <= 360'), true)
  const wide = await of<number>(page, '[data-seq="2"] .table', '({ scrollWidth }) => scrollWidth')
  t.ok(wide < 700, `${wide} px for a word of 3,000 letters`)
})

test('forced colours: the current view, mission and citizen have an outline that others lack', async (t) => {
  const { number } = await makeMission(instance)
  await makeMission(instance)
  const page = await open(t, `${number}/rafael`, { forcedColors: 'active' })
  await page.locator('.mission').nth(1).waitFor()
  await page.locator('.tabs a').first().waitFor()
  const edge = (selector: string): Promise<string> =>
    of<string>(
      page,
      selector,
      '(element) => { const { outlineStyle, outlineWidth } = getComputedStyle(element); return outlineStyle + " " + outlineWidth }',
    )
  for (const kind of ['.tabs a', '.mission', '.crewman']) {
    t.match(await edge(`${kind}[aria-current]`), /^solid [1-9]/, kind)
    t.match(await edge(`${kind}:not([aria-current])`), /^none/, kind)
  }
  t.match(await of<string>(page, '.dot', '(dot) => getComputedStyle(dot).borderTopStyle'), /solid|double/)
})

test('layout: low windows keep room for messages and for the composer', async (t) => {
  const { number } = await makeMission(instance, {
    title: 'A title that is long enough to need more than one line of a phone',
  })
  for (let n = 0; n < 15; n++) await say(t, number, `message ${n}`)
  const page = await open(t, `${number}/rafael`)
  await page.locator('.row').first().waitFor()
  for (const [width, height] of [
    [844, 200],
    [360, 225],
    [667, 250],
    [1280, 320],
    [360, 400],
  ] as const) {
    await page.setViewportSize({ width, height })
    await page.evaluate('new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))')
    const { list, composer, field } = await page.evaluate<Record<string, number>>(`(() => {
      const field = document.querySelector('#composer').getBoundingClientRect()
      return { list: document.querySelector('.scroll').clientHeight, composer: field.bottom, field: field.height } })()`)
    t.ok((list ?? 0) >= 60, `${width} x ${height}: ${list} px of messages`)
    t.ok((composer ?? Infinity) <= height && (field ?? 0) >= 24, `${width} x ${height}: the composer is visible`)
    t.equal(await page.evaluate<boolean>('document.documentElement.scrollWidth <= innerWidth'), true)
    await page.locator('.row', { hasText: 'message 14' }).waitFor()
  }
  // The list of missions keeps room too.
  await page.setViewportSize({ width: 844, height: 200 })
  t.ok((await of<number>(page, '.missions ul', '({ clientHeight }) => clientHeight')) >= 40)
})

test('drawer: on a phone it takes the focus, makes the page behind inert, and closes on a choice or Escape', async (t) => {
  const first = await makeMission(instance)
  const other = await makeMission(instance)
  const page = await open(t, `${first.number}/rafael`, { viewport: { width: 360, height: 740 } })
  const menu = page.getByRole('button', { name: /^Missions/ })
  const side = page.locator('.side')
  const inSide = (): Promise<boolean> =>
    page.evaluate<boolean>(`document.querySelector('.side').contains(document.activeElement)`)
  await page.locator('.list').waitFor()
  await menu.click()
  await side.waitFor()
  await until(inSide, 'the focus in the drawer')
  t.equal(await menu.getAttribute('aria-expanded'), 'true')
  t.equal(await of<boolean>(page, 'main', '(main) => main.inert'), true)
  // Twelve Tabs never reach the page behind.
  for (let n = 0; n < 12; n++) {
    await page.keyboard.press('Tab')
    t.equal(await page.evaluate<boolean>(`document.querySelector('main').contains(document.activeElement)`), false)
  }
  await page.keyboard.press('Escape')
  await side.waitFor({ state: 'hidden' })
  await until(() => of<boolean>(page, '#menu', '(menu) => menu === document.activeElement'), 'the focus back')
  t.equal(await of<boolean>(page, 'main', '(main) => main.inert'), false)

  // A choice by touch, and a choice by the filter.
  await menu.click()
  await page.locator(`.mission[href$="/${other.number}"]`).click()
  await side.waitFor({ state: 'hidden' })
  await page.waitForURL(`**/${other.number}/rafael`)
  await until(() => of<boolean>(page, '#menu', '(menu) => menu === document.activeElement'), 'the focus back')
  await menu.click()
  await page.locator('#filter').fill(`#${first.number}`)
  await page.keyboard.press('Enter')
  await side.waitFor({ state: 'hidden' })
  await page.waitForURL(`**/${first.number}/rafael`)
  t.equal(await inSide(), false)
  // The current mission, the close button, and a click beside the drawer.
  for (const close of [
    () => page.locator('.mission.here').click(),
    () => page.getByRole('button', { name: 'Close the missions' }).click(),
    () => page.locator('.veil').click({ position: { x: 350, y: 400 } }),
  ]) {
    await menu.click()
    await until(inSide, 'the focus in the drawer')
    await close()
    await side.waitFor({ state: 'hidden' })
  }
  // In a wide window there is no drawer.
  await menu.click()
  await page.setViewportSize({ width: 1280, height: 740 })
  await until(() => of<boolean>(page, 'main', '(main) => !main.inert'), 'the page to be usable')
})
