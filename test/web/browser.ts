// A real browser for tests: the system's Chromium (CHROMIUM, or the usual places), started once a file. Without a browser the file is
// skipped with a message. An error on a page's console or an uncaught error fails the test.
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core'
import type { Test } from 'tap'
import { alice } from '../support/server.ts'

const places = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome', '/opt/google/chrome/chrome']
export const binary = [process.env['CHROMIUM'], ...places].find((path) => path && existsSync(path))
/** The `skip` option of a test: false, or the reason. */
export const without = binary ? false : 'no Chromium is installed (CHROMIUM names one): the page is not tested'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** Builds the page if its sources are newer. */
export const buildPage = (): void => {
  execFileSync('sh', ['src/web/build.sh'], { cwd: root })
}

export const startBrowser = async (t: Test): Promise<Browser> => {
  buildPage()
  const browser = await chromium.launch({
    ...(binary ? { executablePath: binary } : {}),
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-networking'],
  })
  t.teardown(() => browser.close())
  return browser
}

/** Opens a page in a separate browser context, as a different user has it. Console errors that match `expected` do not fail the test. */
export const openPage = async (
  t: Test,
  browser: Browser,
  url: string,
  { expected = /^$/, ...options }: BrowserContextOptions & { expected?: RegExp } = {},
): Promise<Page> => {
  const context = await browser.newContext({
    viewport: { width: 1280, height: 800 },
    locale: 'en-GB',
    timezoneId: 'UTC',
    reducedMotion: 'reduce',
    ...options,
  })
  t.teardown(() => context.close())
  const page = await context.newPage()
  page.setDefaultTimeout(10_000)
  page.on('pageerror', (error) => t.fail(`an error in the page: ${error.message}`))
  page.on('console', (message) => {
    // A server that is down is not a fault of the page.
    const text = message.text()
    if (
      message.type() === 'error' &&
      !/ERR_CONNECTION|WebSocket|Failed to load resource/.test(text) &&
      !expected.test(text)
    )
      t.fail(`the page's console: ${text}`)
  })
  await page.goto(url)
  return page
}

/**
 * For files whose tests need the browser. `test` skips without a browser. `openUrl` opens a page;
 * `open` opens one at a path below the instance's missions, signed in.
 */
export const browserTests = async (t: Test, instance: { url: string }) => {
  const browser = without ? undefined : await startBrowser(t)
  const openUrl = async (t: Test, url: string, options = {}): Promise<Page> => {
    if (!browser) throw new Error('no browser')
    return openPage(t, browser, url, options)
  }
  return {
    browser,
    test: (name: string, work: (t: Test) => Promise<void>): void => void t.test(name, { skip: without }, work),
    openUrl,
    open: (t: Test, path: string, token = alice, options = {}): Promise<Page> =>
      openUrl(t, `${instance.url}/deck/missions/${path}#token=${token}`, options),
  }
}
