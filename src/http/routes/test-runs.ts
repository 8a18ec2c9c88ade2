// Test runs. Their logs are in run-logs.ts.
import type { FastifyInstance } from 'fastify'
import Type, { type Static } from '../../protocol/typebox.ts'
import { allow } from '../../access/policy.ts'
import type { Past } from '../../database/read/state-at.ts'
import type { Runs } from '../../database/write/test-runs.ts'
import { deny } from '../../protocol/errors.ts'
import { NewTestRun, RunTask, TestRun, TestRunPatch } from '../../protocol/rows.ts'
import { describe } from './openapi.ts'
import type { CancelTask } from './questions.ts'
import { actorOf } from '../plugins/authenticate.ts'
import { asOf, AsOf, named, takeExactJson, textOf } from '../plugins/validation.ts'
import { json, Limit } from '../plugins/negotiation.ts'

const List = Type.Object({
  limit: Limit,
  cursor: Type.Optional(Type.String({ description: '`next` of the page before' })),
  ...AsOf,
})
const Page = Type.Object({ test_runs: Type.Array(TestRun), next: Type.Union([Type.String(), Type.Null()]) })

export const toCursor = ({ at, id }: { at: string; id: string }): string =>
  Buffer.from(`${at} ${id}`).toString('base64url')
export const fromCursor = (cursor: string): { at: string; id: string } => {
  const [, at, id] =
    /^(\d{4,}-\d\d-\d\dT[\d:.]+Z) ([0-9a-f-]{36})$/.exec(Buffer.from(cursor, 'base64url').toString('latin1')) ?? []
  if (!at || !id) throw deny('bad_request', 'cursor is invalid: use the `next` of an earlier page')
  return { at, id }
}

/** The JSON text of a run's free-form members, as it was sent. */
const exactly = (body: TestRunPatch) => ({ summary: textOf(body, 'summary'), results: textOf(body, 'results') })

/** `runCitizen`: the citizen whose inbox gets the runs that are asked for. */
export const testRoutes = (
  app: FastifyInstance,
  parts: { runs: Runs; past: Past; runCitizen: string; cancelTask: CancelTask },
): void => {
  const { runs: log, past } = parts
  const runs = '/api/missions/:mission/tests'
  const one = `${runs}/:run`
  takeExactJson(app, ['summary', 'results'])

  app.get<{ Querystring: Static<typeof List> }>(
    runs,
    { schema: describe('tests', 'Test runs, newest first', ['mission'], { 200: Page }, { querystring: List }) },
    async (request, reply) => {
      const { limit = 50, cursor } = request.query
      const before = cursor === undefined ? {} : { before: fromCursor(cursor) }
      const at = asOf(request)
      const ref = named(request).mission
      const query = { limit, ...before }
      const { mission, known, rows, next } =
        at === undefined
          ? { known: undefined, ...(await log.listRuns(ref, query)) }
          : await past.listRuns(ref, query, at)
      allow(actorOf(request), 'read', mission)
      known?.()
      return json(reply, `{"test_runs":[${rows.join(',')}],"next":${JSON.stringify(next && toCursor(next))}}`)
    },
  )

  app.post<{ Body: NewTestRun }>(
    runs,
    {
      schema: describe(
        'tests',
        'Create a test run (citizen, admin)',
        ['mission'],
        { 201: TestRun },
        { body: NewTestRun },
      ),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      const { body } = request
      const row = await log.createRun(named(request).mission, (m) => allow(actor, 'run.write', m), {
        ...body,
        ...exactly(body),
      })
      return json(reply.status(201), row)
    },
  )

  app.post(
    `${runs}/run`,
    {
      schema: describe(
        'tests',
        'Request a test run',
        ['mission'],
        { 202: TestRun },
        {
          description:
            'The run is also a task of kind `run` in the inbox of the citizen RUN_CITIZEN. If no runner asks for such work, and nothing ' +
            'changes the run or its log, it fails after RUN_PATIENCE seconds.',
        },
      ),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      const row = await log.askForRun(named(request).mission, (m) => allow(actor, 'run.ask', m), parts.runCitizen)
      return json(reply.status(202), row)
    },
  )

  app.post(
    `${one}/cancel`,
    {
      schema: describe(
        'tests',
        'Cancel a running test run',
        ['mission', 'run'],
        { 200: TestRun },
        {
          description:
            'If nobody has the run, it fails, with the reason in its summary. Otherwise its runner is asked to stop. A run that has ended ' +
            'is `conflict`.',
        },
      ),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      const { mission: ref, run } = named(request)
      const {
        mission,
        holder,
        json: row,
      } = await log.cancelRun(ref, (m) => allow(actor, 'run.cancel', m), run, actor.sub)
      if (holder !== null)
        await parts.cancelTask({ topic: `missions/${mission}/tests`, task: run, holder, by: actor.sub })
      return json(reply, row)
    },
  )

  app.get(
    `${one}/task`,
    {
      schema: describe(
        'tests',
        'Who has a requested run',
        ['mission', 'run'],
        {
          200: Type.Object({ task: Type.Union([RunTask, Type.Null()]) }),
        },
        { description: '`task` is null if the run has ended, or was not requested.' },
      ),
    },
    async (request, reply) => {
      const { mission: ref, run } = named(request)
      const found = await log.task(ref, run)
      allow(actorOf(request), 'read', found.mission)
      if (found.run === null) throw deny('not_found', 'no such test run')
      return json(reply, `{"task":${found.task ?? 'null'}}`)
    },
  )

  const readRun = (path: string, summary: string, latest: boolean): void => {
    const schema = describe(
      'tests',
      summary,
      latest ? ['mission'] : ['mission', 'run'],
      { 200: TestRun },
      { querystring: Type.Object(AsOf) },
    )
    app.get(path, { schema }, async (request, reply) => {
      const at = asOf(request)
      const { mission: ref } = named(request)
      const run = latest ? null : named(request).run
      if (at !== undefined) {
        const { mission, known } = await past.run(ref, run, at)
        allow(actorOf(request), 'read', mission)
        return json(reply, known())
      }
      const { mission, json: row } = await log.run(ref, run)
      allow(actorOf(request), 'read', mission)
      if (row === null) throw deny('not_found', 'no such test run')
      return json(reply, row)
    })
  }
  readRun(`${runs}/latest`, 'The newest test run', true)
  readRun(one, 'A test run', false)

  app.patch<{ Body: TestRunPatch }>(
    one,
    {
      schema: describe(
        'tests',
        'Change a test run (citizen, admin)',
        ['mission', 'run'],
        { 200: TestRun },
        { body: TestRunPatch },
      ),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      const { mission, run } = named(request)
      const { body } = request
      const patch = { ...body, ...exactly(body) }
      return json(reply, await log.changeRun(mission, (m) => allow(actor, 'run.write', m), run, patch))
    },
  )
}
