// A short random walk. test/long/walk.ts walks longer.
import t from 'tap'
import { walk } from './walk.ts'

void t.test('random walk: all observers agree on the row at each seq after any operations in any order', (t) =>
  walk(t, { runs: 1, steps: 40, seed: Number(process.env['SEED'] ?? Date.now() % 1e6) }),
)
