// A run's log: append to it, or read all of it, a range of bytes (Range) or its last lines (?tail=). The text is returned byte for byte,
// escape sequences included. It is streamed page by page, as fast as the client reads. A failure in between resets the connection.
import { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import Type, { type Static } from '../../protocol/typebox.ts'
import { allow } from '../../access/policy.ts'
import type { Logs } from '../../database/read/run-logs.ts'
import type { Runs } from '../../database/write/test-runs.ts'
import { deny } from '../../protocol/errors.ts'
import { describe } from './openapi.ts'
import { known, varies } from '../plugins/compression.ts'
import { actorOf } from '../plugins/authenticate.ts'
import { named, takeText } from '../plugins/validation.ts'
import { json } from '../plugins/negotiation.ts'

const Query = Type.Object({
  tail: Type.Optional(
    Type.Integer({ minimum: 1, maximum: 100_000, description: 'return only the last N lines; ranges apply to them' }),
  ),
})
const Asked = Type.Object({
  range: Type.Optional(Type.String({ description: 'bytes=FIRST-LAST, bytes=FIRST- or bytes=-SUFFIX_LENGTH' })),
  'if-range': Type.Optional(
    Type.String({
      description: 'the range applies only if the ETag still matches; otherwise the whole log is returned',
    }),
  ),
  'if-none-match': Type.Optional(Type.String()),
})
const headers = { ETag: Type.String(), 'Accept-Ranges': Type.Literal('bytes') }
const text = { 'text/plain': { schema: Type.String() } }
const answers = {
  200: { description: 'the log', headers, content: text },
  206: {
    description: 'the requested bytes',
    headers: { ...headers, 'Content-Range': Type.String() },
    content: text,
  },
}

type Part = { from: number; upto: number }

/** The range of a Range header. null if it begins beyond `size`; undefined if the header has no range, or several. */
export const rangeOf = (header: string | undefined, size: number): Part | null | undefined => {
  const [, first = '', last = ''] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header?.replaceAll(' ', '') ?? '') ?? []
  if (first === '' && last === '') return undefined
  if (first === '') return last === '0' || size === 0 ? null : { from: Math.max(0, size - Number(last)), upto: size }
  if (last !== '' && Number(last) < Number(first)) return undefined
  if (Number(first) >= size) return null
  return { from: Number(first), upto: last === '' ? size : Math.min(size, Number(last) + 1) }
}

export const logRoutes = (app: FastifyInstance, { runs, logs }: { runs: Runs; logs: Logs }): void => {
  const path = '/api/missions/:mission/tests/:run/logs'

  app.get<{ Querystring: Static<typeof Query>; Headers: Static<typeof Asked> }>(
    path,
    {
      schema: describe(
        'tests',
        "A run's log: all of it, a range of bytes, its last lines",
        ['mission', 'run'],
        answers,
        {
          querystring: Query,
          headers: Asked,
          description:
            'A range that begins beyond the log is `bad_request` with status 416. Several ranges at once return the whole log.',
        },
      ),
    },
    async (request, reply) => {
      const { mission: ref, run } = named(request)
      const { mission, log, epoch } = await logs.find(ref, run)
      allow(actorOf(request), 'read', mission)
      if (!log) throw deny('not_found', 'no such test run')
      const { tail } = request.query
      // A log that began at `first` only grows, so these numbers identify its content.
      const tag = `"${[epoch, log.first, log.size, ...(tail === undefined ? [] : [tail])].join('-')}"`
      reply.header('etag', tag).header('cache-control', 'private, no-cache').header('accept-ranges', 'bytes')
      varies(reply.type('text/plain; charset=utf-8'))
      if (known(request, tag)) return reply.status(304).send()
      const start = tail === undefined ? 0 : await logs.lastLines(log, tail)
      const size = log.size - start
      const condition = request.headers['if-range']
      const asked = request.method === 'GET' && (condition === undefined || condition === tag)
      const range = asked ? rangeOf(request.headers.range, size) : undefined
      if (range === null) {
        reply.header('content-range', `bytes */${size}`)
        throw deny('bad_request', `the range begins beyond the ${size} bytes of the log`, {}, 416)
      }
      const { from, upto } = range ?? { from: 0, upto: size }
      if (range) reply.status(206).header('content-range', `bytes ${from}-${upto - 1}/${size}`)
      reply.header('content-length', upto - from)
      return reply.send(
        Readable.from(request.method === 'HEAD' ? [] : logs.bytes(log, start + from, start + upto), {
          objectMode: false,
        }),
      )
    },
  )

  app.register((scope, _options, done) => {
    takeText(scope)
    scope.post<{ Body: string }>(
      path,
      {
        schema: {
          ...describe(
            'tests',
            "Append to a run's log (citizen, admin)",
            ['mission', 'run'],
            { 200: Type.Object({ seq: Type.Integer() }) },
            { body: Type.String() },
          ),
          consumes: ['text/plain'],
        },
      },
      async (request, reply) => {
        const actor = actorOf(request)
        const { mission, run } = named(request)
        const seq = await runs.appendLog(mission, (m) => allow(actor, 'run.write', m), run, request.body)
        return json(reply, JSON.stringify({ seq }))
      },
    )
    done()
  })
}
