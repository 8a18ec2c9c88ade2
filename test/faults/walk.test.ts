// A short random walk; test/long/walk.ts goes on for longer.
import t from 'tap'
import { walk } from './walk.ts'

void t.test('whatever is done, in whatever order, all agree on what stands at each seq', (t) =>
  walk(t, { runs: 1, steps: 40, seed: Number(process.env['SEED'] ?? Date.now() % 1e6) }),
)
