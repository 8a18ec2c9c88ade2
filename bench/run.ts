// npm run bench [-- W1 … | deck socketio … | limits rate copy beside growth resume drafts indexer hints workers prune cost | search history | model]: measures, one after the
// other, and prints one table; without names W1 to W7 on all targets, and the limits of the machine. A full run is kept in bench/results.json,
// from which bench/chart.svg is drawn.
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { chart } from './chart.ts'
import { measuredAt } from './commit.ts'
import { ejabberdLibraries } from './ejabberd.ts'
import { summary } from './goals.ts'
import { history } from './history.ts'
import { withPostgres } from './postgres.ts'
import { model } from './model.ts'
import { search } from './search.ts'
import { studies } from './studies.ts'
import { table } from './table.ts'
import { names, type Competitor } from './targets.ts'
import { starter, workloads, type Row } from './workloads.ts'

const root = fileURLToPath(new URL('../../../', import.meta.url))
const asked = process.argv.slice(2)
const isTarget = (name: string): name is Competitor => name in names
/** Each with a Postgres of its own, which holds millions of messages; or none: the model is on paper. */
const large: Record<string, () => Promise<void>> = { search, history, model }
const unknown = asked.filter((name) => !(name in workloads || isTarget(name) || name in studies || name in large))
if (unknown.length > 0) {
  const known = [...Object.keys(workloads), ...Object.keys(names), ...Object.keys(studies), ...Object.keys(large)]
  throw new Error(`there is no ${unknown.join(', ')}; there are ${known.join(', ')}`)
}
const all = asked.length === 0
const chosen = Object.keys(names)
  .filter(isTarget)
  .filter((name) => !asked.some(isTarget) || asked.includes(name))
const say = (text: string): void => void process.stdout.write(`${text}\n`)

if (all || asked.some((name) => !(name in large)))
  await withPostgres(async (postgres) => {
    const rows: Row[] = []
    for (const [workload, { title, raw, topics, run }] of Object.entries(workloads)) {
      if (!(asked.includes(workload) || !asked.some((name) => name in workloads || name in studies || name in large)))
        continue
      const targets = chosen.filter((target) => {
        if (target === 'ejabberd') return ejabberdLibraries() !== undefined && workload !== 'W5'
        return target !== 'raw' || raw === true
      })
      const entries = targets.map((target) => ({ target, start: starter(postgres, target, topics) }))
      for (const row of await run(entries, postgres)) rows.push({ workload, ...row })
      say(`\n${workload}, ${title}\n\n${table(rows.filter((row) => row.workload === workload))}`)
    }
    const goals = summary(rows)
    if (goals !== '') say(`\nGoals\n\n${goals}`)
    for (const [name, study] of Object.entries(studies))
      if (asked.includes(name) || (all && name === 'limits')) say(`\n${await study(postgres)}`)
    if (!all) return
    const measured = { ...measuredAt(), rows }
    writeFileSync(`${root}bench/results.json`, `${JSON.stringify(measured, null, 2)}\n`)
    writeFileSync(`${root}bench/chart.svg`, chart(measured))
  })
for (const [name, study] of Object.entries(large)) if (asked.includes(name)) await study()
