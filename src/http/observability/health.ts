// /healthz: the process is up. /readyz: whether the instance can serve, check by check, with the reason of each failed check. These routes
// need no token, so reasons contain states and codes, but no address, role or statement. A check that can't be made is left out.
import type { FastifyInstance } from 'fastify'
import Type, { type Static } from '../../protocol/typebox.ts'
import { makeBucket } from '../../live/connections/token-bucket.ts'
import { sqlState } from '../../database/postgres/errors.ts'
import { deny } from '../../protocol/errors.ts'
import { ErrorBody } from '../routes/openapi.ts'

/** Each check, and the word that reports its failure. */
const words = {
  serving: 'draining',
  database: 'database',
  schema: 'schema',
  listener: 'listener',
  writer: 'writer',
  capacity: 'overloaded',
} as const

const Check = Type.Object(
  {
    check: Type.Enum(Object.keys(words) as (keyof typeof words)[]),
    ok: Type.Boolean(),
    why: Type.Optional(Type.String({ description: 'for people: why the check failed' })),
  },
  { title: 'Check' },
)
export type Check = Static<typeof Check>
export type Readiness = () => Promise<Check[]>

/** The rate of database checks by /readyz and /metrics. Above it, a request gets the result of the last check. */
const checksPerSecond = 10
const checksAtOnce = 20

const result = (check: Check['check'], why: string | undefined): Check =>
  why === undefined ? { check, ok: true } : { check, ok: false, why }

/** Why the schema check failed; undefined if the error concerns the database. */
const faultOfSchema = (error: unknown): string | undefined => {
  const state = sqlState(error)
  if (state === '42P01' || state === '3F000') return `the migrations are not applied (${state})`
  if (state === '42501') return `the role may not read it (${state})`
  return undefined
}

const faultOfDatabase = (error: unknown): string => {
  const { code } = error as { code?: unknown }
  return typeof code === 'string' && /^[A-Z0-9_]+$/.test(code) ? `it does not answer (${code})` : 'it does not answer'
}

export const makeReadiness = (parts: {
  draining: () => boolean
  /** reads one of the server's tables; rejects if that fails */
  probe: () => Promise<unknown>
  /** timeout of `probe` in ms */
  patience: number
  listening: () => boolean
  /** why the writer can't write; undefined if it can */
  writing: () => string | undefined
  overloaded: () => boolean
}): Readiness => {
  // These routes need no token: one check runs at a time, and a flood of requests shares ten checks a second.
  const fresh = makeBucket(checksPerSecond, checksAtOnce, performance.now())
  let shared: Promise<Check[]> | undefined
  let running = false
  const current = (): Promise<Check[]> => {
    if (shared && (running || !fresh.take(performance.now()))) return shared
    running = true
    return (shared = probe().finally(() => (running = false)))
  }
  const probe = (): Promise<Check[]> =>
    parts.probe().then(
      () => [result('database', undefined), result('schema', undefined)],
      (error: unknown) => {
        const schema = faultOfSchema(error)
        return schema
          ? [result('database', undefined), result('schema', schema)]
          : [result('database', faultOfDatabase(error))]
      },
    )
  const late = (): Promise<Check[]> =>
    new Promise((resolve) => {
      const why = `no answer within ${parts.patience / 1000} s`
      setTimeout(() => resolve([result('database', why)]), parts.patience).unref()
    })
  return async () => {
    // Returned at once, even if another check hangs.
    if (parts.draining())
      return [result('serving', 'the instance is stopping: it answers accepted requests and refuses new ones')]
    return [
      result('serving', undefined),
      ...(await Promise.race([current(), late()])),
      result('listener', parts.listening() ? undefined : 'LISTEN is down; new messages arrive by polling every 5 s'),
      result('writer', parts.writing()),
      result('capacity', parts.overloaded() ? 'the event loop is late: new work is refused' : undefined),
    ]
  }
}

const Ok = Type.Object({ status: Type.Literal('ok') })
const Checks = Type.Array(Check, { description: 'in this order; later versions may add checks' })
const Ready = Type.Object({ ...Ok.properties, checks: Checks })
const NotReady = Type.Object({ ...ErrorBody.properties, checks: Checks }, { title: 'Not ready' })

export const healthRoutes = (app: FastifyInstance, readiness: Readiness): void => {
  const answers = (summary: string, ok: typeof Ok | typeof Ready, failed: typeof ErrorBody | typeof NotReady) => ({
    tags: ['health'],
    summary,
    response: { 200: ok, '5xx': failed },
  })
  app.get('/healthz', { schema: answers('The process is up', Ok, ErrorBody) }, () => ({ status: 'ok' }))

  const schema = answers(
    'The instance can serve: database, schema, listener and writer are ready, and it is not stopping',
    Ready,
    NotReady,
  )
  app.get('/readyz', { schema }, async (_request, reply) => {
    const checks = await readiness()
    const failed = checks.filter(({ ok }) => !ok).map(({ check }) => words[check])
    if (failed.length === 0) return { status: 'ok', checks }
    const { code, detail, status } = deny('unavailable', `not ready: ${failed.join(', ')}`)
    return reply.status(status).header('retry-after', '1').send({ detail, code, checks })
  })
}
