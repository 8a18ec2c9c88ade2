// axe-core in a page: what is not accessible, by WCAG 2.2 AA and good practice.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { Page } from 'playwright-core'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
type Found = { id: string; nodes: { html: string; failureSummary: string }[] }
/** Returns the violations; none if the page is accessible. */
export const examine = async (page: Page): Promise<string[]> => {
  await page.evaluate(`if (!window.axe) { ${axe} }`)
  const found = await page.evaluate<Found[]>(`axe.run(document, {
    runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }).then(({ violations }) => violations)`)
  return found.map(
    ({ id, nodes }) =>
      `${id}: ${nodes.map(({ html, failureSummary }) => `${html.slice(0, 160)} ${failureSummary}`).join('; ')}`,
  )
}
