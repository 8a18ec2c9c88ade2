// CPU per message by rate: server and Postgres at 1 to 20,000 messages/s. Writes bench/rate.json and the chart bench/rate.svg.
// Each rate starts its target anew, one target at a time, so that Postgres works for that target only.
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { measuredAt } from './commit.ts'
import { rateChart, type RatePoint } from './chart.ts'
import { number } from './table.ts'
import { names, type Postgres } from './targets.ts'
import { busy, measure, starter } from './workloads.ts'

const root = fileURLToPath(new URL('../../../', import.meta.url))
const rates = [1, 5, 20, 100, 500, 2000, 10_000, 20_000]
const targets = ['deck', 'tutorial', 'socketio'] as const
/** A rate is held if this share of it was acknowledged in time. */
const share = 0.98
/** s at most a point; fewer for a short look. */
const most = Number(process.env['BENCH_SECONDS'] ?? 20)

const point = async (postgres: Postgres, target: RatePoint['target'], rate: number): Promise<RatePoint> => {
  // 200 messages or 10 s, whichever takes longer.
  const seconds = Math.min(most, Math.max(10, 200 / rate))
  // 500 messages/s warm the code up, and leave no search blocks to be built.
  const first = { rate: 500, bytes: 200, warm: 0, seconds: 5 }
  const f = await measure(starter(postgres, target), postgres, busy, { rate, bytes: 200, seconds }, first)
  const found = f.messages / f.seconds
  const reason =
    f.errors > 0
      ? `${f.errors.toLocaleString('en')} messages refused`
      : f.messages < Math.floor(share * rate * f.seconds)
        ? `${number(found)} messages/s acknowledged`
        : f.lost > 0
          ? `${f.lost.toLocaleString('en')} deliveries lost`
          : undefined
  return {
    target,
    rate,
    found,
    server: f.server / f.messages,
    postgres: f.postgres / f.messages,
    p99: f.p99,
    ...(reason === undefined ? {} : { reason }),
  }
}

export const rate = async (postgres: Postgres): Promise<string> => {
  const points: RatePoint[] = []
  for (const offered of rates)
    for (const target of targets)
      // A target that missed a rate is not measured at higher rates.
      if (!points.some((earlier) => earlier.target === target && earlier.reason !== undefined))
        points.push(await point(postgres, target, offered))
  const measured = { ...measuredAt(), points }
  writeFileSync(`${root}bench/rate.json`, `${JSON.stringify(measured, null, 2)}\n`)
  writeFileSync(`${root}bench/rate.svg`, rateChart(measured))
  const cell = (target: RatePoint['target'], offered: number): string => {
    const found = points.find((one) => one.target === target && one.rate === offered)
    if (!found) return '–'
    const { server, postgres: ofPostgres, reason } = found
    return reason ?? `${number(server + ofPostgres)} (${number(server)} + ${number(ofPostgres)})`
  }
  const lines = [
    ['messages/s', ...targets.map((target) => names[target])],
    ['--:', ...targets.map(() => '--:')],
    ...rates.map((offered) => [offered.toLocaleString('en'), ...targets.map((target) => cell(target, offered))]),
  ]
  return `CPU µs/message of server + Postgres, by rate\n\n${lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n')}`
}
