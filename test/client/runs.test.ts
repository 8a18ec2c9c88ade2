// deck.citizen(name).run, and `run` of answer: an SDK worker of test runs.
import t from 'tap'
import { connect, DeckError, type Job } from '../../src/client/index.ts'
import { alice, makeMission, startDeck, startInstance, token, until, type Json } from '../support/server.ts'

const { instance: one, database } = await startDeck(t, { limits: { lease: 3, renewEvery: 300 } })
const two = await startInstance(t, database.url, { limits: { lease: 3, renewEvery: 300 } })
const sofia = await token({ sub: 'sofia', role: 'citizen' })

const join = (url = one.url, bearer = sofia) => {
  const deck = connect({ url, token: bearer })
  const faults: unknown[] = []
  deck.on('error', (error) => faults.push(error))
  t.teardown(() => deck.close())
  return { deck, faults }
}
const begin = async () => {
  const { id } = await makeMission(one)
  const { deck } = join(two.url, alice)
  return { id, tests: deck.tests(id), chat: deck.chat(id, 'sofia') }
}
const aborted = ({ signal }: Job): Promise<void> =>
  new Promise((resolve) => signal.addEventListener('abort', () => resolve()))

void t.test('client runs: a handler gets the run, writes its log and returns its end', async (t) => {
  const { tests } = await begin()
  const { deck } = join()
  const over = new AbortController()
  const worked = deck.citizen('sofia').run(
    async (run, { attempt, log }) => {
      for (const line of ['one\n', 'two\n', '\0\ud800\n']) await log(line)
      return { status: 'failed', summary: { attempt }, results: [{ name: run.id, status: 'failed' }] }
    },
    { signal: over.signal },
  )
  const { id } = await tests.run()
  await until(async () => (await tests.get(id)).status === 'failed', 'the run to end')
  t.match(await tests.get(id), { summary: { attempt: 1 }, results: [{ name: id }] })
  t.equal(await tests.logs(id).read(), 'one\ntwo\n\ufffd\ufffd\n')
  t.equal(await tests.task(id), null)
  over.abort()
  await worked
})

void t.test('client runs: one connection answers messages and works runs', async () => {
  const { tests, chat } = await begin()
  const { deck } = join()
  const over = new AbortController()
  const worked = deck.citizen('sofia').answer(({ message }) => `re: ${message}`, {
    signal: over.signal,
    run: () => ({ status: 'passed' }),
  })
  const { id } = await tests.run()
  await chat.send('hello')
  await until(async () => (await tests.get(id)).status === 'passed', 'the run')
  await until(async () => (await chat.history()).messages.at(-1)?.message === 're: hello', 'the reply')
  over.abort()
  await worked
})

void t.test(
  'client runs: a cancel aborts the signal, and the run fails with the name of who cancelled it',
  async (t) => {
    const { tests } = await begin()
    const { deck } = join()
    const over = new AbortController()
    let job: Job | undefined
    const worked = deck.citizen('sofia').run(
      async (_run, given) => {
        job = given
        await aborted(given)
        await given.log('cleaned up\n')
        throw new Error('what a handler throws after a cancel does not matter')
      },
      { signal: over.signal },
    )
    const { id } = await tests.run()
    await until(() => job !== undefined, 'the handler')
    t.match(await tests.cancel(id), { id, status: 'running' })
    await until(async () => (await tests.get(id)).status === 'failed', 'the run to end')
    t.match(await tests.get(id), { summary: { reason: 'cancelled by alice' } })
    t.equal(await tests.logs(id).read(), 'cleaned up\n')
    t.match(job?.signal.reason, { code: 'cancelled' })
    await t.rejects(tests.cancel(id), { code: 'conflict' })
    over.abort()
    await worked
  },
)

void t.test('client runs: a handler that throws gives the run back, and so does one that is stopped', async (t) => {
  const { tests } = await begin()
  const { deck, faults } = join()
  const over = new AbortController()
  const worked = deck.citizen('sofia').run(
    async (_run, job) => {
      if (job.attempt === 1) throw new Error('no room')
      await aborted(job)
    },
    { signal: over.signal },
  )
  const { id } = await tests.run()
  await until(async () => (await tests.task(id))?.attempt === 2, 'the second attempt')
  t.match(faults, [{ message: 'no room' }])
  over.abort()
  await worked
  t.match(await tests.task(id), { state: 'waiting', attempt: 2 })
  const { deck: next } = join(two.url)
  void next.citizen('sofia').run(() => ({ status: 'passed' }))
  await until(async () => (await tests.get(id)).status === 'passed', 'the third attempt')
  next.close()
})

void t.test('client runs: a job that another runner has changes nothing', async (t) => {
  const { tests } = await begin()
  const { deck } = join()
  const jobs: Job[] = []
  const over = new AbortController()
  const worked = deck.citizen('sofia').run(
    async (_run, job) => {
      jobs.push(job)
      if (jobs.length === 1) await until(async () => (await tests.task(id))?.attempt === 2, 'the other runner', 30_000)
      return { status: 'failed' }
    },
    { signal: over.signal },
  )
  const { id } = await tests.run()
  await until(() => jobs.length === 1, 'the handler')
  // As if its lease had run out.
  const claimed = async (): Promise<Json | undefined> => {
    await database.query('update deck.tasks set lease_until = clock_timestamp() where id = $1', [id])
    const body = { kinds: ['run'], lease: 60 }
    const { json } = await two.request('POST', '/api/inbox/sofia/claim', sofia, body)
    return (json['tasks'] as Json[])[0]
  }
  let other: Json | undefined
  await until(async () => (other = await claimed()) !== undefined, 'the claim')
  t.match(other, { task: id, attempt: 2 })
  over.abort(new DeckError('closed', 'the test is over'))
  await worked
  t.match(await tests.get(id), { status: 'running' })
  t.match(await tests.task(id), { state: 'working', attempt: 2 })
})
