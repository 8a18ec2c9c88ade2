// The soak in its short form. test/long/soak.ts runs it in full.
import t from 'tap'
import { soak } from './soak.ts'

void t.test('soak: acknowledged messages are stored once and followers hold 1…n after any fault', async (t) => {
  const { rows, ledger, figures } = await soak(t, { seconds: 12, every: 1500, senders: 8, seed: Date.now() % 1e6 })
  t.ok(ledger.acknowledged.length > 100 && rows >= ledger.acknowledged.length, `${rows} rows`)
  t.match(
    figures.join('\n'),
    /messages committed: [1-9]\d+, .*send to commit: p50 \d+\.\d ms/s,
    'the metrics show the load',
  )
})
