// The documents for operators match the server: the dashboard and the alert rules query only existing metrics, and every metric is used.
// Each alert has a section in docs/operations.md. The table of settings matches config.ts; WRITE=1 rewrites it.
import { readFileSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { parse } from 'yaml'
import { Environment } from '../../src/config/index.ts'
import { startDeck } from '../support/server.ts'
import { root } from '../support/processes.ts'

type Panel = {
  id: number
  type: string
  title: string
  description?: string
  gridPos: { x: number; y: number; w: number; h: number }
  targets?: { refId: string; expr: string; legendFormat: string }[]
}
type Rule = {
  alert: string
  expr: string
  for?: string
  labels: { severity: string }
  annotations: { summary: string; runbook_url: string }
}
const read = (file: string): string => readFileSync(`${root}${file}`, 'utf8')
const { groups } = parse(read('ops/prometheus/alerts.yml')) as { groups: { rules: Rule[] }[] }
const rules = groups.flatMap(({ rules }) => rules)
const { panels, uid, schemaVersion } = JSON.parse(read('ops/grafana/mission-deck.json')) as {
  panels: Panel[]
  uid: string
  schemaVersion: number
}
const expressions = [
  ...rules.map(({ expr }) => expr),
  ...panels.flatMap(({ targets }) => targets?.map(({ expr }) => expr) ?? []),
]

const { instance } = await startDeck(t)
// An earlier request, so that series with labels by method and status exist.
await instance.request('GET', '/api/missions')
const series = (await instance.request('GET', '/metrics')).text
  .split('\n')
  .filter((line) => line && !line.startsWith('#'))
const names = new Set(series.map((line) => /^\w+/.exec(line)?.[0] ?? ''))

void t.test("monitoring: the metrics and labels in the dashboard's and alerts' queries exist", (t) => {
  t.ok(expressions.length > 60)
  for (const expression of expressions)
    for (const [, name = '', , labels = ''] of expression.matchAll(/\b((?:deck|nodejs|process)_\w+)(\{([^}]*)\})?/g)) {
      t.ok(names.has(name), name)
      for (const [, label = '', value = ''] of labels.matchAll(/(\w+)=~?"([^"$][^"]*)"/g))
        for (const one of value.split('|'))
          t.ok(
            series.some((line) => line.startsWith(`${name}{`) && line.includes(`${label}="${one}"`)),
            `${name} with ${label}="${one}"`,
          )
    }
  t.end()
})

void t.test('monitoring: every metric is used by the dashboard or an alert', (t) => {
  const all = expressions.join('\n')
  for (const name of names)
    if (name.startsWith('deck_') && !/_(bucket|sum|count)$/.test(name)) t.ok(all.includes(name), name)
  t.end()
})

void t.test('alerts: each has a unique name, a severity, a summary with a value and a section in the runbook', (t) => {
  const headings = new Set(
    [...read('docs/operations.md').matchAll(/^#+ (.+)$/gm)].map(([, title = '']) =>
      title.toLowerCase().replace(/ /g, '-'),
    ),
  )
  t.equal(new Set(rules.map(({ alert }) => alert)).size, rules.length)
  for (const { alert, labels, annotations } of rules) {
    t.match(labels.severity, /^(critical|warning)$/, alert)
    t.equal(
      annotations.runbook_url,
      `https://github.com/mission-deck/mission-deck/blob/main/docs/operations.md#${alert.toLowerCase()}`,
    )
    t.ok(headings.has(alert.toLowerCase()), `${alert} has a section`)
    t.match(annotations.summary, /\{\{ \$(value|labels)/, alert)
  }
  t.end()
})

void t.test('dashboard: panels have titles, descriptions and queries, and do not overlap', (t) => {
  t.match(uid, /^[a-z-]+$/)
  t.ok(schemaVersion >= 36)
  t.equal(new Set(panels.map(({ id }) => id)).size, panels.length)
  const taken = new Set<string>()
  for (const { type, title, description, gridPos, targets } of panels) {
    t.ok(title)
    if (type !== 'row') {
      t.ok(description, `${title} has a description`)
      t.ok(
        targets?.every(({ expr, legendFormat }) => expr && legendFormat),
        title,
      )
      t.equal(new Set(targets?.map(({ refId }) => refId)).size, targets?.length)
    }
    t.ok(gridPos.x + gridPos.w <= 24, title)
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++)
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        t.notOk(taken.has(`${x} ${y}`), `${title} overlaps no other panel`)
        taken.add(`${x} ${y}`)
      }
  }
  t.end()
})

void t.test('operations.md: the table of settings matches config.ts', (t) => {
  const file = 'docs/operations.md'
  const properties = Environment.properties as unknown as Record<string, { description: string; default: unknown }>
  const rows = Object.entries(properties).map(([name, { description, default: value }]) => {
    return `| ${name} | ${value === '' ? '' : `\`${String(value)}\``} | ${description} |`
  })
  const table = ['| setting | default | |', '| --- | --- | --- |', ...rows].join('\n')
  const between = /(<!-- settings[^>]*-->\n)[^]*?(\n<!-- \/settings -->)/
  const text = read(file)
  if (process.env['WRITE'])
    writeFileSync(`${root}${file}`, text.replace(between, `$1${table.replace(/\$/g, '$$$$')}$2`))
  t.equal(between.exec(read(file))?.[0].split('\n').slice(1, -1).join('\n'), table)
  t.end()
})
