// A mission filled to its limits, and the requests that get each GET route's largest response.
import type { FreshDatabase } from './database.ts'

/** The two runs to compare. Each has many tests, and no test is in both. */
export type Filled = { mission: string; run: string; a: string; b: string; message: string; asked: string }

/** Fills a mission, and creates 500 more. Characters that JSON escapes take six bytes each. */
export const fill = async (database: FreshDatabase, mission: string): Promise<Filled> => {
  const run = async (text: string): Promise<string> => {
    const [row] = await database.query(`${text} returning id`, [mission])
    return String(row?.['id'])
  }
  await database.query(
    `insert into missions (title, client, budget, deadline, status, assigned_to, github_url)
     select repeat(chr(1), 1000), repeat(chr(1), 1000), 1, now(), 'active', 'alice', 'https://' || repeat(chr(1), 1990) from generate_series(1, 500)`,
  )
  await database.query(
    `insert into deck.citizens (name, title, about, position)
     select 'c' || n, repeat(chr(1), 200), repeat(chr(1), 2000), n from generate_series(1, 1000) n`,
  )
  await database.query(`insert into deck.people (sub, name, role)
    select n || repeat(chr(1), 1000), repeat(chr(1), 1000), 'user' from generate_series(1, 500) n`)
  await database.query(`insert into deck.audit (action, actor, detail)
    select 'chat.clear', repeat(chr(1), 256), jsonb_build_object('x', repeat(chr(1), 20000)) from generate_series(1, 500) n`)
  await database.query(`insert into deck.citizen_keys (citizen, missions, by, expires_at)
    select 'rafael', (select jsonb_agg(repeat('x', 36)) from generate_series(1, 200)), repeat(chr(1), 256), now() + interval '1 day'
    from generate_series(1, 100) n`)
  await database.query(
    `insert into dod_items (mission_id, text, category, test_name)
     select $1, n || ' needle ' || repeat(chr(1), 1000), 'tests', n || repeat(chr(1), 990) from generate_series(1, 1000) n`,
    [mission],
  )
  // Twenty runs in which tests with long names pass and fail alternately.
  await database.query(
    `insert into test_runs (mission_id, status, created_at, results)
     select $1, 'failed', now() - r * interval '1 minute', jsonb_agg(jsonb_build_object('name', n || repeat('x', 9000), 'status',
       case r % 2 when 0 then 'passed' else 'failed' end, 'error', 'needle'))
     from generate_series(1, 20) r, generate_series(1, 110) n group by r`,
    [mission],
  )
  const many = (name: string, age: string): Promise<string> =>
    run(`insert into test_runs (mission_id, status, created_at, summary, results)
         select $1, 'failed', now() - interval '${age}', jsonb_build_object('text', 'needle ' || repeat('x', 1040000)),
           jsonb_agg(jsonb_build_object('name', '${name}' || n || repeat('x', 1025))) from generate_series(1, 1000) n`)
  const [a, b] = [await many('a', '10 seconds'), await many('b', '0 seconds')]
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, author, key, message, code_blocks, details)
     select $1, 'c' || n, 'user', repeat(chr(1), 256), repeat('"', 64), repeat(chr(1), 9000) || ' needle',
       jsonb_build_array(jsonb_build_object('language', null, 'code', repeat('x', 4050))),
       jsonb_build_object('usage', jsonb_build_object('text', repeat('x', 230)))
     from generate_series(1, 500) n`,
    [mission],
  )
  // Short messages whose steps are long.
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message, details)
     select $1, 'steps', 'citizen', 'needle', jsonb_build_object('activity', (
       select jsonb_agg(jsonb_build_object('line', repeat('🎛', 200), 'status', 'done', 'ms', 1)) from generate_series(1, 50)))
     from generate_series(1, 500) n`,
    [mission],
  )
  // Messages that were written between the two runs.
  const [message] = await database.query(
    `insert into chat_messages (mission_id, citizen, sender, author, message, code_blocks, created_at)
     select $1, 'rafael', 'user', repeat(chr(1), 256), repeat('needle ', 1000), jsonb_build_array(
       jsonb_build_object('language', repeat(chr(1), 200000), 'code', 'needle')), now() at time zone 'utc' - interval '5 seconds'
     from generate_series(1, 6) n returning id`,
    [mission],
  )
  await database.query(
    `insert into deck.members (mission_id, sub) select $1, n || repeat(chr(1), 500) from generate_series(1, 300) n`,
    [mission],
  )
  const asked = await run(
    `insert into deck.requests (mission_id, citizen, kind, title, body, options, expires_at)
     select $1, 'rafael', 'choose', repeat(chr(1), 200), repeat(chr(1), 10000),
       array(select n || repeat(chr(1), 190) from generate_series(1, 50) n), now() + interval '1 day' from generate_series(1, 300)`,
  )
  return { mission, run: b, a, b, message: String(message?.['id']), asked }
}

/** By route, as the OpenAPI document names it: the requests that get its largest responses. Responses of a stream have no bound. */
export const largest = ({
  mission,
  run,
  a,
  b,
  message,
  asked,
}: Filled): Record<string, { ask: string[]; stream?: true }> => {
  const one = `/api/missions/${mission}`
  const at = `at=${new Date(Date.now() + 3_600_000).toISOString()}`
  return {
    '/healthz': { ask: ['/healthz'] },
    '/readyz': { ask: ['/readyz'] },
    '/metrics': { ask: ['/metrics'] },
    '/api/limits': { ask: ['/api/limits'] },
    '/auth': { ask: ['/auth'] },
    '/api/people': { ask: ['/api/people?limit=500'] },
    '/api/audit': { ask: ['/api/audit?limit=500'] },
    '/api/citizens/{name}/keys': { ask: ['/api/citizens/rafael/keys'] },
    '/api/citizens': { ask: ['/api/citizens'] },
    '/api/requests': { ask: ['/api/requests?limit=500'] },
    '/api/missions/{mission}/requests': { ask: [`${one}/requests?limit=500`, `${one}/requests?limit=500&${at}`] },
    '/api/missions/{mission}/requests/{request}': { ask: [`${one}/requests/${asked}`] },
    '/api/inbox/{citizen}': { ask: ['/api/inbox/rafael?limit=500'] },
    '/api/missions': { ask: ['/api/missions?limit=500'] },
    '/api/missions/{mission}': { ask: [one, `${one}?${at}`] },
    '/api/missions/{mission}/members': { ask: [`${one}/members`] },
    '/api/missions/{mission}/chat': { ask: [`${one}/chat?limit=500`] },
    '/api/missions/{mission}/chat/{citizen}': {
      ask: [
        `${one}/chat/rafael?limit=500`,
        `${one}/chat/rafael?limit=500&after=0`,
        `${one}/chat/steps?limit=500`,
        `${one}/chat/steps?limit=500&after=0`,
        `${one}/chat/steps?limit=500&q=needle&highlight=true`,
        `${one}/chat/rafael?limit=500&${at}`,
        `${one}/chat/rafael?limit=500&q=needle&highlight=true`,
        `${one}/chat/rafael?limit=500&q=needle&order=rank&highlight=true`,
      ],
    },
    '/api/missions/{mission}/chat/{citizen}/messages/{message}': { ask: [`${one}/chat/rafael/messages/${message}`] },
    '/api/missions/{mission}/chat/{citizen}/questions': { ask: [`${one}/chat/rafael/questions?limit=500`] },
    '/api/missions/{mission}/dod': { ask: [`${one}/dod`, `${one}/dod?${at}`] },
    '/api/missions/{mission}/search': {
      ask: ['', '&kind=message', '&kind=code', '&kind=test', '&kind=dod', '&order=rank'].map(
        (more) => `${one}/search?q=needle&limit=500${more}`,
      ),
    },
    '/api/missions/{mission}/tests': { ask: [`${one}/tests?limit=500`, `${one}/tests?limit=500&${at}`] },
    '/api/missions/{mission}/tests/latest': { ask: [`${one}/tests/latest`, `${one}/tests/latest?${at}`] },
    '/api/missions/{mission}/tests/{run}': { ask: [`${one}/tests/${run}`, `${one}/tests/${run}?${at}`] },
    '/api/missions/{mission}/tests/{run}/task': { ask: [`${one}/tests/${run}/task`] },
    '/api/missions/{mission}/tests/{a}/diff/{b}': {
      ask: [`${one}/tests/${a}/diff/${b}`, `${one}/tests/${b}/diff/${a}`],
    },
    '/api/missions/{mission}/tests/{run}/logs': { ask: [`${one}/tests/${run}/logs`], stream: true },
    '/api/missions/{mission}/timeline': {
      ask: [`${one}/timeline?limit=500`, `${one}/timeline?limit=500&order=desc&logs=true`],
    },
  }
}
