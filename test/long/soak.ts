// Ten minutes of continuous load (MINUTES, SEED) with a fault every 5 s. Prints what the dashboard would have shown. Run: npm run soak
import t from 'tap'
import { soak } from '../faults/soak.ts'

t.setTimeout(3_600_000)
const minutes = Number(process.env['MINUTES'] ?? 10)
const seed = Number(process.env['SEED'] ?? Date.now() % 1e6)

void t.test('soak: acknowledged messages are stored once and followers hold 1…n after any fault', async (t) => {
  const { times, figures, rows, inserted, ledger, followers } = await soak(t, {
    seconds: minutes * 60,
    every: 5000,
    senders: 16,
    seed,
  })
  const ms = (value = 0): string => `${Math.round(value)} ms`
  const count = [...times.values()].reduce((sum, { length }) => sum + length, 0)
  t.comment(
    `seed ${seed}: ${minutes} minutes, ${count} faults, ${ledger.acknowledged.length} messages acknowledged, ` +
      `${inserted} inserted by SQL, ${rows} rows; ${followers} followers hold every row; keyless sends without an answer: ` +
      `${ledger.maybe.size}; errors: ${[...ledger.told].map(([what, n]) => `${what} ${n}`).join(', ')}`,
  )
  for (const [name, all] of [...times].sort()) {
    const sorted = all.toSorted((a, b) => a - b)
    t.comment(`${name}: ${all.length} ×, recovery ${ms(sorted[sorted.length >> 1])}, worst ${ms(sorted.at(-1))}`)
  }
  for (const line of figures) t.comment(line)
})
