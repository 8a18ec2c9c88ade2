// The largest response of each GET route: at most `answer_bytes` of GET /api/limits.
import t from 'tap'
import { fill, largest } from '../support/largest-responses.ts'
import { admin, alice, makeMission, startDeck, type Json } from '../support/server.ts'

const { instance, database } = await startDeck(t)
const { request } = instance
const { id } = await makeMission(instance)
const table = largest(await fill(database, id))
const most = 4 * 1024 * 1024

const { json } = await request('GET', '/openapi.json')
const routes = Object.entries(json['paths'] as Record<string, Json>).flatMap(([path, methods]) =>
  'get' in methods ? [path] : [],
)

await t.test('response limits: the table has a largest response for each GET route', (t) => {
  t.strictSame(routes.toSorted(), Object.keys(table).sort())
  t.end()
})

for (const route of routes)
  await t.test(`response limits: GET ${route} has at most 4 MiB`, async (t) => {
    for (const path of table[route]?.ask ?? []) {
      const begun = performance.now()
      const bearer = /^\/api\/(inbox\/|people|audit|citizens\/)/.test(path) ? admin : alice
      const { status, text } = await request('GET', path, bearer, undefined, { 'accept-encoding': 'identity' })
      const bytes = Buffer.byteLength(text)
      t.comment(`${path.replace(id, '…')}: ${bytes} bytes, ${Math.round(performance.now() - begun)} ms`)
      t.equal(status, 200, path)
      if (!table[route]?.stream) t.ok(bytes <= most, `${path}: ${bytes} bytes`)
    }
  })
