// The results as bars, one group a figure: longer is more, ours is dark. And CPU a message against the rate, as lines on log axes. Drawn by
// hand: some text, rectangles and lines.
import type { Measured } from './commit.ts'
import { names } from './targets.ts'
import type { Row } from './workloads.ts'

const figures: [workload: string, column: string, title: string][] = [
  ['W1', 'messages/s', 'W1 busy deck, messages/s (more is better)'],
  ['W1', 'CPU µs/message, server', 'W1, µs of server CPU a message (less is better)'],
  ['W2', 'p99 ms', 'W2 steady, p99 ms (less is better)'],
  ['W3', 'server µs/delivery', 'W3 hot room, µs of server CPU a delivery (less is better)'],
  ['W4', 'KB/socket', 'W4 idle, KB a socket (less is better)'],
  ['W5', 'messages/s', 'W5 two instances, messages/s (more is better)'],
]
const width = 760
const label = 320

const drawing = () => {
  const parts: string[] = []
  return {
    parts,
    text: (x: number, y: number, what: string, style = ''): void =>
      void parts.push(
        `<text x="${x}" y="${y}" ${style}>${what.replaceAll('&', '&amp;').replaceAll('<', '&lt;')}</text>`,
      ),
    svg: (height: number): string =>
      `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n${parts.join('\n')}\n</svg>\n`,
  }
}

export const chart = ({ commit, machine, rows }: Measured & { rows: Row[] }): string => {
  const { parts, text, svg } = drawing()
  let y = 30
  text(16, y, `Mission Deck and its peers, commit ${commit}`, 'font-size="16" font-weight="bold"')
  y += 18
  text(16, y, machine, 'fill="#666"')
  for (const [workload, column, title] of figures) {
    const group = rows.filter((row) => row.workload === workload && row.figures[column] !== undefined)
    if (group.length === 0) continue
    y += 34
    text(16, y, title, 'font-weight="bold"')
    const most = Math.max(...group.map(({ figures }) => figures[column] ?? 0))
    for (const { target, figures } of group) {
      const value = figures[column] ?? 0
      const bar = Math.max(2, ((width - label - 90) * value) / most)
      y += 22
      text(16, y, names[target])
      parts.push(
        `<rect x="${label}" y="${y - 12}" width="${bar.toFixed(1)}" height="15" fill="${target === 'deck' ? '#1f4e79' : '#b9c7d6'}"/>`,
      )
      text(label + bar + 6, y, value >= 100 ? Math.round(value).toLocaleString('en') : value.toFixed(1))
    }
  }
  return svg(y + 24)
}

export type RatePoint = {
  target: 'deck' | 'tutorial' | 'socketio'
  /** messages/s offered, and acknowledged */
  rate: number
  found: number
  /** CPU µs a message */
  server: number
  postgres: number
  p99: number
  /** why the rate was not held; undefined if it was */
  reason?: string
}

const lines: [target: RatePoint['target'], colour: string][] = [
  ['deck', '#1f4e79'],
  ['tutorial', '#c55a11'],
  ['socketio', '#548235'],
]

/** The place of a value between two others on a log axis: 0 at the low end, 1 at the high end. */
const along = (value: number, low: number, high: number): number => Math.log(value / low) / Math.log(high / low)

/** Powers of ten from the one at or below all values to the one at or above all. */
const decades = (values: number[]): number[] => {
  const low = Math.floor(Math.log10(Math.min(...values)))
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values))))
  return Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i))
}

/** CPU of server and Postgres a message, by messages/s; a line ends at the last rate that its target held. */
export const rateChart = ({ commit, machine, points }: Measured & { points: RatePoint[] }): string => {
  const { parts, text, svg } = drawing()
  const [left, right, top, bottom] = [70, width - 30, 80, 400]
  const total = ({ server, postgres }: RatePoint): number => server + postgres
  const shown = points.filter((point) => point.reason === undefined && total(point) > 0)
  const [rates, costs] = [points.map(({ rate }) => rate), decades(shown.length > 0 ? shown.map(total) : [1])]
  const [least, most] = [Math.min(...rates), Math.max(...rates)]
  const x = (rate: number): number => Math.round(left + (right - left) * along(rate, least, most))
  const y = (cost: number): number =>
    Math.round(bottom - (bottom - top) * along(cost, costs[0] ?? 1, costs.at(-1) ?? 10))
  text(
    16,
    30,
    'CPU µs a message, server + Postgres, by messages/s (less is better)',
    'font-size="16" font-weight="bold"',
  )
  text(16, 48, `commit ${commit}, ${machine}`, 'fill="#666"')
  for (const cost of costs) {
    parts.push(`<line x1="${left}" x2="${right}" y1="${y(cost)}" y2="${y(cost)}" stroke="#ddd"/>`)
    text(left - 8, y(cost) + 4, cost.toLocaleString('en'), 'fill="#666" text-anchor="end"')
  }
  for (const rate of new Set(rates)) {
    parts.push(`<line x1="${x(rate)}" x2="${x(rate)}" y1="${top}" y2="${bottom}" stroke="#ddd"/>`)
    text(x(rate), bottom + 18, rate.toLocaleString('en'), 'fill="#666" text-anchor="middle"')
  }
  lines.forEach(([target, colour], i) => {
    const own = shown.filter((point) => point.target === target)
    const at = own.map((point) => `${x(point.rate)},${y(total(point))}`)
    parts.push(`<polyline points="${at.join(' ')}" fill="none" stroke="${colour}" stroke-width="2"/>`)
    for (const point of own)
      parts.push(`<circle cx="${x(point.rate)}" cy="${y(total(point))}" r="3" fill="${colour}"/>`)
    const missed = points.find((point) => point.target === target && point.reason !== undefined)
    const end = missed ? `; ${missed.rate.toLocaleString('en')}/s not held: ${missed.reason}` : ''
    parts.push(`<rect x="${left}" y="${bottom + 36 + 20 * i}" width="14" height="4" fill="${colour}"/>`)
    text(left + 22, bottom + 42 + 20 * i, `${names[target]}${end}`)
  })
  return svg(bottom + 110)
}
