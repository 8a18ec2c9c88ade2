// A random walk of many runs (RUNS, STEPS, SEED): npx tap --timeout=900 --reporter=tap test/long/walk.ts
import t from 'tap'
import { walk } from '../faults/walk.ts'

t.setTimeout(900_000)
const { RUNS = 30, STEPS = 80, SEED = Date.now() % 1e6 } = process.env

void t.test('random walk: all observers agree on the row at each seq after any operations in any order', async (t) => {
  await walk(t, { runs: Number(RUNS), steps: Number(STEPS), seed: Number(SEED) })
  t.comment(`${RUNS} walks of up to ${STEPS} steps from seed ${SEED}: all agree`)
})
