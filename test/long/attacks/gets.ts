// Each GET route at its largest response, requested repeatedly for 3 s, with the latency of a different user's sends and reads: the
// second table of docs/security.md. test/http/response-limits.test.ts checks that no response exceeds 4 MiB.
import t from 'tap'
import { fill, largest } from '../../support/largest-responses.ts'
import { freshDatabase } from '../../support/database.ts'
import { admin, alice, door, makeMission } from '../../support/server.ts'
import { spawnServer } from '../../support/processes.ts'
import { measureUser, main } from './attack.ts'

await t.test('attack: each GET route at its largest response', { timeout: 600_000 }, async (t) => {
  const database = await freshDatabase(t, true)
  const { url } = await spawnServer(t, { DATABASE_URL: database.url, RATE_LIMITS: 'on' }, [process.execPath, main])
  const server = door(t, url)
  const { id } = await makeMission(server)
  const { id: other } = await makeMission(server, { assigned_to: 'bob' })
  const table = largest(await fill(database, id))
  for (const [route, { ask }] of Object.entries(table)) {
    let over = false
    let bytes = 0
    const times: number[] = []
    const statuses = new Set<number>()
    const get = async (): Promise<void> => {
      for (const path of ask) {
        const begun = performance.now()
        const bearer = /^\/api\/(inbox\/|people|audit|citizens\/)/.test(path) ? admin : alice
        const { status, text } = await server.request('GET', path, bearer, undefined, { 'accept-encoding': 'identity' })
        times.push(performance.now() - begun)
        statuses.add(status)
        bytes = Math.max(bytes, Buffer.byteLength(text))
      }
      if (!over) await get()
    }
    const end = performance.now() + 3000
    const [meanwhile] = await Promise.all([measureUser(server, other, () => (over = performance.now() > end)), get()])
    t.comment(`| ${route} | ${[...statuses].join()} | ${bytes} | ${Math.round(Math.max(...times))} | ${meanwhile} |`)
  }
})
