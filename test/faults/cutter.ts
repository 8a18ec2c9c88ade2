// Two instances behind one proxy. Each random cut makes the proxy connect to the other instance.
// A check compares the chat in the database with what was sent.
import type { Test } from 'tap'
import type { FreshDatabase } from '../support/database.ts'
import type { Wire } from '../support/socket-proxy.ts'

/** Cuts all connections each time that `next` resolves. `stop()` resolves with the number of cuts. */
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

/** Fails if the chat does not contain each message once, with each sender's messages in order. */
export const checkTable = async (t: Test, database: FreshDatabase, mission: string, count: number): Promise<void> => {
  const rows = await database.query('select seq, message from chat_messages where mission_id = $1 order by seq', [
    mission,
  ])
  t.equal(rows.length, count, 'one row for each message')
  const last = new Map<string, number>()
  for (const { message } of rows) {
    const [sender = '', n] = String(message).split(' ')
    if (Number(n) !== (last.get(sender) ?? -1) + 1) return void t.fail(`${String(message)} is out of order`)
    last.set(sender, Number(n))
  }
}
