// The soak in its short form; test/long/soak.ts is the whole of it.
import t from 'tap'
import { soak } from './soak.ts'

void t.test('whatever fails, what was acknowledged is stored once, and every follower holds 1…n', async (t) => {
  const { rows, ledger } = await soak(t, { seconds: 12, every: 1500, senders: 8, seed: Date.now() % 1e6 })
  t.ok(ledger.acknowledged.length > 100 && rows >= ledger.acknowledged.length, `${rows} rows`)
})
