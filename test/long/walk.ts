// A random walk of many runs (RUNS, STEPS, SEED); by command: npx tap --timeout=900 --reporter=tap test/long/walk.ts
import t from 'tap'
import { walk } from '../faults/walk.ts'

t.setTimeout(900_000)
const { RUNS = 30, STEPS = 80, SEED = Date.now() % 1e6 } = process.env

void t.test('whatever is done, in whatever order, all agree on what stands at each seq', async (t) => {
  await walk(t, { runs: Number(RUNS), steps: Number(STEPS), seed: Number(SEED) })
  t.comment(`${RUNS} walks of up to ${STEPS} steps from seed ${SEED}: all agree`)
})
