// Two servers under load are replaced one by one: no acknowledged message is lost or duplicated, and no follower waits long.
// (From the previous version, and at full rate: test/long/rolling.ts.)
import t from 'tap'
import { freshDatabase } from '../support/database.ts'
import { roll } from './rolling.ts'

await t.test('rolling restart: every follower holds 1…n when two servers are replaced one by one', async (t) => {
  const database = await freshDatabase(t, true)
  const { messages, gap, stops, wrong, maybe } = await roll(t, database, { senders: 8, pace: 20, calm: 500 })
  t.strictSame(wrong, [])
  t.ok(gap < 5000, `longest gap between two deliveries: ${Math.round(gap)} ms`)
  t.ok(stops.every((took) => took < 10_000))
  t.comment(
    `${messages} messages, ${maybe} without a key that were not answered; longest gap ${Math.round(gap)} ms; stops took ${stops.map(Math.round).join(' and ')} ms`,
  )
})
