// Two instances behind one wire that is cut at random moments, each time to lead to the other one; and what the database holds in
// the end of what was sent through it.
import type { Test } from 'tap'
import type { FreshDatabase } from '../support/database.ts'
import type { Wire } from '../support/socket-proxy.ts'

/** Cuts each time that `next` resolves, until it is stopped; -> how often. */
export const startCutting = (wire: Wire, targets: [string, string], next: () => Promise<unknown>) => {
  let over = false
  let cuts = 0
  const done = (async () => {
    while (!over) {
      await next()
      if (over) break
      wire.target = targets[++cuts % 2] ?? wire.target
      wire.cut()
    }
  })()
  return {
    async stop(): Promise<number> {
      over = true
      await done
      return cuts
    },
  }
}

/** Fails if the chat does not hold each message once, and each sender's in its order. */
export const checkTable = async (t: Test, database: FreshDatabase, mission: string, count: number): Promise<void> => {
  const rows = await database.query('select seq, message from chat_messages where mission_id = $1 order by seq', [
    mission,
  ])
  t.equal(rows.length, count, 'as many rows as were sent')
  const last = new Map<string, number>()
  for (const { message } of rows) {
    const [sender = '', n] = String(message).split(' ')
    if (Number(n) !== (last.get(sender) ?? -1) + 1) return void t.fail(`${String(message)} is out of order`)
    last.set(sender, Number(n))
  }
}
