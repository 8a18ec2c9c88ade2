// The results as bars, one group a figure: longer is more, ours is dark. Drawn by hand: some text and rectangles.
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

export const chart = ({ commit, machine, rows }: { commit: string; machine: string; rows: Row[] }): string => {
  const parts: string[] = []
  let y = 30
  const text = (x: number, at: number, what: string, style = ''): void =>
    void parts.push(`<text x="${x}" y="${at}" ${style}>${what.replaceAll('&', '&amp;').replaceAll('<', '&lt;')}</text>`)
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
  const frame = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y + 24}" font-family="sans-serif" font-size="12">`
  return `${frame}\n<rect width="100%" height="100%" fill="white"/>\n${parts.join('\n')}\n</svg>\n`
}
