// SQL injection: attack texts in each string of every documented body, query, path and frame, found by the schemas.
// The texts are data: refused like other bad input, or stored unchanged.
import t from 'tap'
import { clientFrames } from '../../src/protocol/client-frames.ts'
import { admin, makeMission, startDeck, token, until, type Json } from '../support/server.ts'

const { database, instance } = await startDeck(t)
const victim = await makeMission(instance, { title: 'Victim' })
await instance.request('POST', `/api/missions/${victim.id}/chat/rafael`, admin, { message: 'still here' })

const attacks = [
  `'; delete from missions; --`,
  `x'); drop table chat_messages cascade; select ('`,
  `\\'; truncate deck.events; --`,
  `" or 1=1 --`,
  `$1 || (select pg_sleep(5)) || $$`,
  `%' or 'a' like '%`,
  `{"$ne": null}`,
]

type Schema = {
  type?: string
  properties?: Record<string, Schema>
  required?: string[]
  items?: Schema
  anyOf?: Schema[]
}
/** Returns the paths of a schema's members that take a string. */
const strings = (schema: Schema, path: (string | 0)[] = []): (string | 0)[][] => [
  ...(schema.type === 'string' || (path.length > 0 && !schema.type && !schema.anyOf && !schema.properties)
    ? [path]
    : []),
  ...(schema.anyOf ?? []).flatMap((one) => strings(one, path)),
  ...Object.entries(schema.properties ?? {}).flatMap(([name, one]) => strings(one, [...path, name])),
  ...(schema.items ? strings(schema.items, [...path, 0]) : []),
]
const put = (base: Json, path: (string | 0)[], value: string): Json => {
  const copy = structuredClone(base)
  let at: Record<string | number, unknown> = copy
  for (const [n, step] of path.entries()) {
    if (n === path.length - 1) at[step] = value
    else at = (at[step] ??= path[n + 1] === 0 ? [] : {}) as Record<string | number, unknown>
  }
  return copy
}

const untouched = async (): Promise<void> => {
  const { json } = await instance.request('GET', `/api/missions/${victim.id}/chat/rafael`, admin)
  if (json['last_seq'] !== 1 || (json['messages'] as Json[])[0]?.['message'] !== 'still here')
    throw new Error('the victim was touched')
}

void t.test('SQL injection: attack texts over HTTP are only data', async (t) => {
  const { json: api } = await instance.request('GET', '/openapi.json')
  let tried = 0
  let kept = 0
  for (const [path, methods] of Object.entries(api['paths'] as Record<string, Record<string, Json>>))
    for (const [method, operation] of Object.entries(methods)) {
      if (!path.startsWith('/api/') || path === '/api/tickets') continue
      const { id } = await makeMission(instance)
      const mission = `/api/missions/${id}`
      const item = (await instance.request('POST', `${mission}/dod`, admin, { text: 'x', category: 'tests' })).json[
        'id'
      ]
      const run = (await instance.request('POST', `${mission}/tests`, admin, {})).json['id']
      const real: Record<string, unknown> = { mission: id, citizen: 'rafael', item, run }
      const fill = (names: Record<string, unknown>): string =>
        path.replace(/\{(\w+)\}/g, (_all, name: string) => encodeURIComponent(String(names[name])))
      const content = (operation['requestBody'] as { content?: Record<string, { schema: Schema }> } | undefined)
        ?.content
      const [type, { schema } = { schema: {} as Schema }] = Object.entries(content ?? {})[0] ?? []
      const base: Json = {}
      for (const name of schema.required ?? [])
        base[name] = {
          message: 'x',
          text: 'x',
          category: 'tests',
          title: 'x',
          client: 'x',
          assigned_to: 'x',
          completed: true,
          budget: 1,
          sub: 'x',
          role: 'user',
          deadline: '2030-01-01T00:00:00Z',
        }[name]
      const parameters = (operation['parameters'] ?? []) as { name: string; in: string; schema: Schema }[]
      for (const attack of attacks) {
        const calls: [url: string, body: unknown, given?: string][] = [
          ...parameters
            .filter((parameter) => parameter.in === 'path')
            .map(({ name }): [string, unknown] => [
              fill({ ...real, [name]: attack }),
              type === 'text/plain' ? 'x' : base,
            ]),
          ...parameters
            .filter((parameter) => parameter.in === 'query')
            .map(({ name }): [string, unknown] => [`${fill(real)}?${name}=${encodeURIComponent(attack)}`, undefined]),
          ...(type === 'text/plain'
            ? [[fill(real), attack, attack] as [string, unknown, string]]
            : strings(schema).map((way): [string, unknown, string] => [fill(real), put(base, way, attack), attack])),
        ]
        for (const [url, body, given] of calls) {
          const headers: Record<string, string> = type === 'text/plain' ? { 'content-type': 'text/plain' } : {}
          const answer = await instance.request(
            method.toUpperCase(),
            url,
            admin,
            method === 'get' || method === 'delete' ? undefined : body,
            headers,
          )
          tried++
          if (answer.status >= 500) t.fail(`${method} ${url}: ${answer.status} ${answer.text}`)
          // An accepted text is returned unchanged.
          if (
            given !== undefined &&
            answer.status < 300 &&
            type !== 'text/plain' &&
            answer.text.includes(JSON.stringify(given).slice(1, -1))
          )
            kept++
        }
        await untouched()
      }
      if (type === 'text/plain') {
        const { text } = await instance.request('GET', fill(real), admin)
        for (const attack of attacks) t.ok(text.includes(attack))
      }
    }
  t.comment(`${tried} requests, ${kept} of their texts kept`)
  t.ok(tried > 400 && kept > 50)
})

void t.test('SQL injection: attack texts over the socket are only data', async (t) => {
  const { id } = await makeMission(instance)
  const client = await instance.connect(admin)
  const topic = `missions/${id}/chat/rafael`
  const base: Json = { topic, message: 'x', token: admin }
  let kept = 0
  for (const [type, schema] of Object.entries(clientFrames))
    for (const way of strings(schema as Schema).filter(([name]) => name !== 'id'))
      for (const attack of attacks) {
        const answer = await client.ask({ type, ...put(base, way, attack) })
        t.not(answer['code'], 'internal', `${type} ${way.join('.')}`)
        if (answer['type'] === 'ok' && JSON.stringify(answer).includes(JSON.stringify(attack).slice(1, -1))) kept++
      }
  client.send({ type: 'ping', id: attacks[0] })
  await until(() => client.frames.some((frame) => frame['id'] === attacks[0]), 'the answer')
  await untouched()
  t.ok(kept > 20, `${kept} texts kept`)
})

void t.test('SQL injection: attack texts in a token are only data', async (t) => {
  for (const attack of attacks) {
    const bearer = await token({ sub: attack, role: 'user', missions: [attack, victim.id], jti: attack })
    const { status, json } = await instance.request('POST', `/api/missions/${victim.number}/chat/sofia`, bearer, {
      message: attack,
    })
    t.strictSame([status, json['author'], json['message']], [201, attack, attack])
    t.equal((await instance.request('GET', '/api/missions', bearer)).status, 200)
    const { json: made } = await instance.request('POST', '/api/tickets', bearer)
    t.match(made['ticket'], /^deck_ticket_/)
    await database.query('select deck.revoke($1)', [attack])
    await until(
      async () => (await instance.request('GET', '/api/missions', bearer)).status === 401,
      'the token to be refused',
    )
  }
  await untouched()
})
