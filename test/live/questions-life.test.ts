// The life of questions on two instances, by random steps: users and SQL ask, imports add messages, workers take, answer, end, release and
// vanish, by socket and over HTTP, users retry and cancel. After each round both instances must show what the tables hold and what the steps have led to. A frame may only show a state
// that the tables have had: a trigger records each. At the end every question has been answered once, or was closed.
// SEED=n repeats a run.
import t from 'tap'
import {
  alice,
  makeMission,
  startDeck,
  startInstance,
  token,
  until,
  type Client,
  type Instance,
  type Json,
} from '../support/server.ts'

const seed = Number(process.env['SEED'] ?? Math.trunc(Math.random() * 2 ** 31))
t.comment(`SEED=${seed}`)
let last = seed
/** The next of a sequence of pseudorandom integers from 0 to n - 1 (mulberry32). */
const pick = (n: number): number => {
  last = (last + 0x6d2b79f5) | 0
  let x = Math.imul(last ^ (last >>> 15), 1 | last)
  x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x
  return ((x ^ (x >>> 14)) >>> 0) % n
}
const oneOf = <T>(all: readonly T[]): T | undefined => (all.length > 0 ? all[pick(all.length)] : undefined)

// A lease ends soon after its socket has closed.
const limits = { lease: 2, renewEvery: 300 }
const { instance: one, database } = await startDeck(t, { limits })
const two = await startInstance(t, database.url, { limits })
const both = [one, two] as const
await database.query(`
  create table public.audit (id uuid, version jsonb);
  create function public.note_version() returns trigger language plpgsql as
    $$ begin insert into public.audit values (new.id, to_jsonb(new)); return null; end $$;
  create trigger audit after insert or update on deck.tasks for each row execute function public.note_version()`)

type Question = {
  id: string
  seq: number
  state: string
  attempt: number
  until: string | null
  answer: { id: string; seq: number } | null
}
type Stored = {
  ended: string | null
  answered: boolean
  answer: string | null
  attempt: number
  dead: boolean
  lease_until: string | null
}
type Worker = { client: Client; on: Instance; held: Map<string, number> }
type Claim = { task: string; claim: string; attempt: number }
/** What the steps have led to. `by`: the worker or the claim that holds it, as far as it has been reported. */
type Known = { chat: string; ended: 'answered' | 'closed' | undefined; by: Worker | Claim | undefined; attempt: number }

/** A task's state by its columns, as the table in db/functions/questions.sql has it. */
const stateOf = ({ ended, answered, lease_until, dead, attempt }: Stored, now: number): string => {
  if (ended) return answered ? 'answered' : 'closed'
  if (lease_until && Date.parse(lease_until) > now) return 'working'
  return dead || attempt >= 5 ? 'failed' : 'waiting'
}

const live = async (round: number): Promise<void> => {
  const name = `lived${round}`
  const bearer = await token({ sub: name, role: 'citizen' })
  const missions = [await makeMission(one), await makeMission(one)]
  const chats = missions.map(({ id }) => `missions/${id}/chat/${name}`)
  const known = new Map<string, Known>()
  const plain = new Set<string>()
  let opened = false
  const watchers = await Promise.all(
    both.map(async (on) => {
      const client = await on.connect(alice)
      for (const topic of chats)
        t.match(await client.ask({ type: 'subscribe', topic, questions: true }), { type: 'ok' })
      return client
    }),
  )
  const workers: Worker[] = []
  // Claims over HTTP, those that may have lapsed too.
  const claims: Claim[] = []
  const steps: string[] = []
  const somewhere = (): Instance => both[pick(2)] ?? one

  const learn = (id: string, chat: string): void => {
    known.set(id, { chat, ended: undefined, by: undefined, attempt: 0 })
  }
  const hear = (worker: Worker): void => {
    worker.client.socket.on('message', (data: Buffer) => {
      const frame = JSON.parse(data.toString()) as Json & { task: string; topic: string; attempt: number }
      if (frame['type'] !== 'task') return
      worker.held.set(frame.task, frame.attempt)
      if (plain.has(frame.task)) t.fail('a message that is no question became a task', { frame, seed })
      // The task may arrive before the answer to its question.
      if (!known.has(frame.task)) learn(frame.task, frame.topic)
      Object.assign(known.get(frame.task) ?? {}, { by: worker, attempt: frame.attempt })
    })
  }
  /** Ends a worker's task by its answer to a frame. */
  const settle = async (worker: Worker, task: string, frame: Json, ended: Known['ended']): Promise<void> => {
    // (Before the answer: the same socket may get the task again with it.)
    const attempt = worker.held.get(task)
    worker.held.delete(task)
    const answer = await worker.client.ask({ ...frame, task })
    const of = known.get(task)
    if (answer['type'] === 'ok' && of) {
      // (The answer to a release may arrive after the next holder got the task.)
      if (ended) of.ended = ended
      if (of.by === worker && of.attempt === attempt) of.by = undefined
    } else t.equal(answer['code'], 'conflict', `${String(frame['type'])} of a task that is no longer held`)
  }
  const held = (): [Worker, string] | undefined =>
    oneOf(workers.flatMap((worker) => [...worker.held.keys()].map((task) => [worker, task] as [Worker, string])))

  /** Calls for a claimed task. If the claim no longer holds it, the call is refused and the task is left to its holder. */
  const callFor = async (mine: Claim, verb: string, body: Json, ended: Known['ended']): Promise<void> => {
    const path = `/api/inbox/${name}/tasks/${mine.task}/${verb}`
    const { status, json } = await somewhere().request('POST', path, bearer, { claim: mine.claim, ...body })
    const of = known.get(mine.task)
    if (status < 300 && of) {
      if (ended) of.ended = ended
      else if (verb === 'renew' && !of.by) Object.assign(of, { by: mine, attempt: mine.attempt })
      if (verb !== 'renew' && of.by === mine) of.by = undefined
    } else t.match([status, json], [409, { code: 'conflict' }], `${verb} under a claim that no longer holds its task`)
    if (verb !== 'renew' || status === 409) claims.splice(claims.indexOf(mine), 1)
  }
  const take = async (credit: number): Promise<void> => {
    const key: Record<string, string> = pick(2) ? { 'idempotency-key': `k${pick(1e9)}` } : {}
    const path = `/api/inbox/${name}/claim`
    const first = await somewhere().request('POST', path, bearer, { credit, lease: 60 }, key)
    const found = first.json['tasks'] as (Claim & { topic: string })[]
    if (key['idempotency-key'] !== undefined && found.length > 0) {
      const again = await somewhere().request('POST', path, bearer, { credit, lease: 60 }, key)
      t.strictSame(
        (again.json['tasks'] as Claim[]).map(({ task, claim }) => `${task} ${claim}`),
        found.map(({ task, claim }) => `${task} ${claim}`),
        'the same key gets the same tasks',
      )
    }
    for (const mine of found) {
      claims.push(mine)
      if (plain.has(mine.task)) t.fail('a message that is no question became a task', { mine, seed })
      if (!known.has(mine.task)) learn(mine.task, mine.topic)
      Object.assign(known.get(mine.task) ?? {}, { by: mine, attempt: mine.attempt })
    }
  }

  const moves: Record<string, () => Promise<void>> = {
    async claim() {
      opened = true
      await take(1 + pick(3))
    },
    async claimReply() {
      const mine = oneOf(claims)
      if (mine) await callFor(mine, 'reply', { message: `answer to ${mine.task}` }, 'answered')
    },
    async claimDone() {
      const mine = oneOf(claims)
      if (mine) await callFor(mine, 'done', {}, 'closed')
    },
    async claimRelease() {
      const mine = oneOf(claims)
      if (mine) await callFor(mine, 'release', {}, undefined)
    },
    async renew() {
      const mine = oneOf(claims)
      if (mine) await callFor(mine, 'renew', {}, undefined)
    },
    /** A worker over HTTP is silent for so long that its lease runs out. Its claim still counts until another worker gets the task. */
    async lapse() {
      const mine = oneOf(claims)
      const of = mine && known.get(mine.task)
      if (!mine || of?.by !== mine) return
      of.by = undefined
      await database.query(
        `update deck.tasks set lease_until = clock_timestamp() - interval '1 ms' where id = $1 and lease_until is not null`,
        [mine.task],
      )
    },
    /** Imported messages never become tasks. (Without an inbox they are shown as waiting until there is one.) */
    async import() {
      if (!opened) return
      const n = pick(missions.length)
      const rows = await database.query(`select gen_random_uuid()::text as id from generate_series(1, 2)`)
      const ids = rows.map(({ id }) => String(id))
      for (const id of ids) plain.add(id)
      await database.query(
        `select deck.import_messages(array[$1], '{1,1}', $2::uuid[], '{user,user}', '{null,null}', '{imported,imported}', null, null, null, true)`,
        [chats[n], ids],
      )
    },
    async ask() {
      const topic = oneOf(chats) ?? ''
      const { json } = await somewhere().request('POST', `/api/${topic}`, alice, { message: `q${known.size}` })
      if (!known.has(String(json['id']))) learn(String(json['id']), topic)
    },
    async sql() {
      const n = pick(missions.length)
      const rows = await database.query(`select gen_random_uuid()::text as id from generate_series(1, $1::integer)`, [
        1 + pick(4),
      ])
      for (const { id } of rows) learn(String(id), chats[n] ?? '')
      await database.query(
        `insert into chat_messages (id, mission_id, citizen, sender, message) select x::uuid, $1, $2, 'user', 'sql' from unnest($3::text[]) x`,
        [missions[n]?.id, name, rows.map(({ id }) => id)],
      )
    },
    /** Before the first work, what stands before a citizen's message is no question. */
    async say() {
      const topic = oneOf(chats) ?? ''
      if (!opened)
        for (const [id, { chat, ended }] of known)
          if (chat === topic && ended === undefined) {
            known.delete(id)
            plain.add(id)
          }
      t.match(await somewhere().request('POST', `/api/${topic}`, bearer, { message: 'by the way' }), { status: 201 })
    },
    async name() {
      const [id, of] = oneOf([...known]) ?? []
      if (!id || !of) return
      const { status } = await somewhere().request('POST', `/api/${of.chat}`, bearer, { message: 'see', reply_to: id })
      t.equal(status, 201)
      if (opened) return
      if (of.ended === undefined) of.ended = 'answered'
      for (const [other, { chat, ended }] of known)
        if (chat === of.chat && ended === undefined) {
          known.delete(other)
          plain.add(other)
        }
    },
    async work() {
      if (workers.length >= 4) return
      const on = somewhere()
      const worker: Worker = { on, client: await on.connect(bearer), held: new Map() }
      hear(worker)
      opened = true
      t.match(await worker.client.ask({ type: 'work', credit: 1 + pick(3) }), { type: 'ok' })
      workers.push(worker)
    },
    async reply() {
      const [worker, task] = held() ?? []
      const topic = known.get(task ?? '')?.chat
      if (!worker || !task || !topic) return
      const message = `answer to ${task}`
      const frame: Json = pick(2)
        ? { type: 'send', topic, message }
        : { type: 'stream', topic, message, key: task, done: true }
      await settle(worker, task, frame, 'answered')
    },
    async end() {
      const [worker, task] = held() ?? []
      if (worker && task) await settle(worker, task, { type: 'done' }, 'closed')
    },
    async release() {
      const [worker, task] = held() ?? []
      if (worker && task) await settle(worker, task, { type: 'release' }, undefined)
    },
    async vanish() {
      const worker = oneOf(workers)
      if (!worker) return
      workers.splice(workers.indexOf(worker), 1)
      worker.client.socket.terminate()
      await until(() => worker.client.closed !== undefined, 'the socket to close')
      for (const of of known.values()) if (of.by === worker) of.by = undefined
    },
    async retry() {
      const [id, of] = oneOf([...known]) ?? []
      if (!id || !of) return
      const { status, json } = await somewhere().request('POST', `/api/${of.chat}/questions/${id}/retry`, alice)
      if (status === 200) t.match(json, { state: 'waiting', attempt: 0 })
      else t.equal(status, 409)
    },
    async cancel() {
      const [id, of] = oneOf([...known]) ?? []
      if (!id || !of) return
      const { status, json } = await somewhere().request('POST', `/api/${of.chat}/questions/${id}/cancel`, alice)
      if (status === 200 && json['state'] === 'closed') of.ended = 'closed'
      else if (status !== 409) t.match([status, json], [200, { state: 'working' }])
    },
  }
  const weights: [string, number][] = [
    ['ask', 5],
    ['sql', 3],
    ['say', 1],
    ['name', 2],
    ['work', 3],
    ['reply', 6],
    ['end', 2],
    ['release', 8],
    ['vanish', 2],
    ['retry', 4],
    ['cancel', 3],
    ['claim', 4],
    ['claimReply', 4],
    ['claimDone', 1],
    ['claimRelease', 4],
    ['renew', 2],
    ['lapse', 2],
    ['import', 2],
  ]
  const deck = weights.flatMap(([move, n]) => Array<string>(n).fill(move))

  const questions = async (on: Instance, topic: string, query = ''): Promise<Question[]> =>
    (await on.request('GET', `/api/${topic}/questions?limit=500${query}`, alice)).json['questions'] as Question[]

  /** Compares what an instance shows with the tables and with the steps. Returns the first difference. */
  const difference = async (on: Instance, topic: string): Promise<string | undefined> => {
    const shown = await questions(on, topic)
    const rows = await database.query('select id, to_jsonb(t) as version from deck.tasks t where citizen = $1', [name])
    const stored = new Map(rows.map(({ id, version }) => [id, version as Stored]))
    const now = Date.now()
    const expected = [...known].filter(([, { chat }]) => chat === topic)
    const ids = new Set(shown.map(({ id }) => id))
    if (shown.length !== expected.length || !expected.every(([id]) => ids.has(id)))
      return `${shown.length} questions are shown, not ${expected.length}`
    for (const { id, state, attempt, answer } of shown) {
      const row = stored.get(id)
      const want = row ? `${stateOf(row, now)} ${row.attempt} ${String(row.answer)}` : 'waiting 0 null'
      const got = `${state} ${attempt} ${answer?.id ?? 'null'}`
      if (got !== want) return `${id} is ${got}; in the tables ${want}`
      const { ended, by, attempt: reported } = known.get(id) as Known
      const fits = ended
        ? state === ended
        : by && reported === attempt
          ? state === 'working'
          : !['answered', 'closed'].includes(state)
      if (!fits) return `${id} is ${got}; by the steps ${ended ?? (by ? 'working' : 'open')}`
    }
    return undefined
  }
  const agree = async (): Promise<void> => {
    let why: string | undefined
    await until(async () => {
      const all = await Promise.all(both.flatMap((on) => chats.map((topic) => difference(on, topic))))
      why = all.find((one) => one !== undefined)
      return why === undefined
    }, 'both instances to show what the tables hold').catch((error: Error) =>
      t.fail(`${error.message}: ${why}`, { seed, steps: steps.slice(-30) }),
    )
  }

  for (let n = 0; n < 150; n++) {
    // First some steps of a citizen without an inbox.
    const move =
      n < 12 ? (oneOf(['ask', 'ask', 'sql', 'say', 'name', 'cancel', 'retry']) ?? 'ask') : (oneOf(deck) ?? 'ask')
    steps.push(move)
    await moves[move]?.()
    if (n === 11 || n % 50 === 49) await agree()
  }

  // Two workers answer what is left; failed questions are tried again.
  for (const mine of [...claims]) await callFor(mine, 'release', {}, undefined)
  for (const worker of [...workers]) {
    for (const task of [...worker.held.keys()]) await settle(worker, task, { type: 'release' }, undefined)
    t.match(await worker.client.ask({ type: 'work', credit: 0 }), { type: 'ok' })
  }
  for (const on of both) {
    const worker: Worker = { on, client: await on.connect(bearer), held: new Map() }
    hear(worker)
    worker.client.socket.on('message', (data: Buffer) => {
      const frame = JSON.parse(data.toString()) as { type: string; task: string; topic: string }
      if (frame.type === 'task')
        void settle(
          worker,
          frame.task,
          { type: 'send', topic: frame.topic, message: `answer to ${frame.task}` },
          'answered',
        )
    })
    t.match(await worker.client.ask({ type: 'work', credit: 5 }), { type: 'ok' })
    workers.push(worker)
  }
  await until(async () => {
    for (const worker of workers.slice(0, -2))
      for (const task of [...worker.held.keys()]) await settle(worker, task, { type: 'release' }, undefined)
    for (const topic of chats)
      for (const { id } of await questions(one, topic, '&state=failed'))
        await two.request('POST', `/api/${topic}/questions/${id}/retry`, alice)
    return [...known.values()].every(({ ended }) => ended !== undefined)
  }, 'every question to end').catch((error: Error) =>
    t.fail(error.message, { seed, left: [...known].filter(([, k]) => !k.ended).map(([id]) => id) }),
  )
  await agree()

  const twice = await database.query(
    `select in_reply_to from chat_messages where citizen = $1 and message like 'answer to %' group by 1 having count(*) > 1`,
    [name],
  )
  t.strictSame(twice, [], `round ${round}: no question is answered twice`)
  const all = (await Promise.all(chats.map((topic) => questions(two, topic)))).flat()
  t.equal(all.length, known.size)
  t.ok(
    all.every(({ state }) => ['answered', 'closed'].includes(state)),
    `round ${round}: no question is lost`,
  )
  t.notOk(all.some(({ id }) => plain.has(id)))

  // The frames.
  const allowed = new Map<string, Set<string>>()
  const allow = (id: string, state: string): void => void allowed.set(id, (allowed.get(id) ?? new Set()).add(state))
  for (const id of [...known.keys(), ...plain]) allow(id, 'waiting 0 null')
  for (const { id, version } of await database.query(
    'select id, version from public.audit where (version ->> $1) = $2',
    ['citizen', name],
  )) {
    const stored = version as Stored
    // Before and after its lease has run out.
    for (const now of [0, Infinity])
      allow(String(id), `${stateOf(stored, now)} ${stored.attempt} ${String(stored.answer)}`)
  }
  for (const client of watchers) {
    const frames = client.frames.filter(({ type }) => type === 'question') as unknown as Question[]
    const text = ({ state, attempt, answer }: Question): string => `${state} ${attempt} ${answer?.id ?? 'null'}`
    const wrong = frames.filter((frame) => !allowed.get(frame.id)?.has(text(frame)))
    t.strictSame(wrong, [], `round ${round}: ${frames.length} frames show states that the tables have had`)
    const final = (): boolean => {
      const shown = new Map(
        (client.frames.filter(({ type }) => type === 'question') as unknown as Question[]).map((f) => [f.id, text(f)]),
      )
      return all.every((question) => shown.get(question.id) === text(question))
    }
    await until(final, 'the last frame of each question').then(
      () => t.pass('the last frame of each question shows how it ended'),
      (error: Error) => t.fail(error.message, { seed }),
    )
  }
  for (const { client } of workers) client.close()
}

for (let round = 0; round < 3; round++)
  await t.test(`questions: a whole life on two instances, round ${round}, agrees with the tables and the steps`, () =>
    live(round),
  )
