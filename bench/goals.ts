// The goals for decks that write 1 to 500 messages a second, as ratios of figures that one run measured. Printed, never asserted.
import { names, type Competitor } from './targets.ts'
import type { Row } from './workloads.ts'

type Goal = {
  workload: string
  title: string
  /** at most this */
  limit: number
  unit: '×' | 'ms'
  /** from our figures and a target's; NaN without one of them */
  value(figures: (target: Competitor) => Row['figures']): number
}

const both = (figures: Row['figures']): number =>
  (figures['CPU µs/message, server'] ?? NaN) + (figures['CPU µs/message, Postgres'] ?? NaN)
const column =
  (name: string) =>
  (figures: Row['figures']): number =>
    figures[name] ?? NaN
const ratio =
  (of: (figures: Row['figures']) => number, target: Competitor): Goal['value'] =>
  (figures) =>
    of(figures('deck')) / of(figures(target))
/** Ours to the lowest of all peers that store messages. */
const toBest =
  (name: string): Goal['value'] =>
  (figures) => {
    const peers = (['socketio', 'ejabberd', 'tutorial'] as const).map((target) => column(name)(figures(target)))
    return column(name)(figures('deck')) / Math.min(...peers.filter((value) => !Number.isNaN(value)))
  }

const goals: Goal[] = [
  { workload: 'W2', title: 'CPU, ours / tutorial', limit: 1.2, unit: '×', value: ratio(both, 'tutorial') },
  { workload: 'W2', title: 'CPU, ours / Socket.IO', limit: 0.85, unit: '×', value: ratio(both, 'socketio') },
  { workload: 'W2', title: 'p50, ours / best peer', limit: 1.3, unit: '×', value: toBest('p50 ms') },
  { workload: 'W2', title: 'p99, ours / best peer', limit: 1.3, unit: '×', value: toBest('p99 ms') },
  {
    workload: 'W6',
    title: 'p50, ours − tutorial',
    limit: 0.3,
    unit: 'ms',
    value: (figures) => column('p50 ms')(figures('deck')) - column('p50 ms')(figures('tutorial')),
  },
  { workload: 'W6', title: 'p99, ours / tutorial', limit: 1.2, unit: '×', value: ratio(column('p99 ms'), 'tutorial') },
  {
    workload: 'W3',
    title: `server CPU a delivery, ours / ${names.raw}`,
    limit: 1.05,
    unit: '×',
    value: ratio(column('server µs/delivery'), 'raw'),
  },
]

/** A table of the goals for which there are figures; '' without any. */
export const summary = (rows: Row[]): string => {
  const lines = goals.flatMap(({ workload, title, limit, unit, value }) => {
    const found = value(
      (target) => rows.find((row) => row.workload === workload && row.target === target)?.figures ?? {},
    )
    if (!Number.isFinite(found)) return []
    const met = found <= limit ? 'yes' : 'no'
    return `| ${workload} ${title} | ${found.toFixed(2)} ${unit} | ≤ ${limit} ${unit} | ${met} |`
  })
  return lines.length === 0
    ? ''
    : ['| goal | measured | limit | met |', '| --- | --: | --: | --- |', ...lines].join('\n')
}
