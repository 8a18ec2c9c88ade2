// Generates a used database: any number of messages in chats of very different length, in order of time, with seqs as the database
// would assign them. They have sentences of frequent and rare words, identifiers, commits, and code in one message of eight. The data
// is the same in every run (except commits). Postgres builds the rows, in a few µs per message. For psql:
// node bench/dist/bench/generate.js 1000000 postgres://… fills the missions of a database that a server has migrated.
import { fileURLToPath } from 'node:url'
import pg from 'pg'

const citizens = ['rafael', 'sofia', 'emma', 'leo', 'ida']
const plain =
  `the a to of and is in it for that this with on as not be we i have at by from or are can was but if will which all
 there has so do one would more when what who now out about up into some time could them than then other two only new like our over
 just because how any after most also work first need use still where should between please here again back before same next while
 done good sure thanks yes no maybe later today tomorrow customer client deadline message button reply chat bot token error retry
 server queue worker request answer timeout database index migration table column row query page filter search test suite case
 result failed passed flaky coverage build deploy release branch merge review comment issue checklist item budget design layout
 colour font screen mobile desktop browser cache header payload webhook event socket stream batch lock transaction commit rollback
 schema type module function class method argument value default option flag config environment secret key permission role user
 admin login session cookie header redirect link image upload download file folder path log line trace stack memory cpu latency
 throughput limit rate burst window bucket counter metric chart alert dashboard report invoice payment refund price plan trial
 telegram inline keyboard callback edit delete send notify schedule reminder calendar zone language translation locale plural`
    .split(/\s+/)
    .filter(Boolean)
const verbs =
  'get set make find load save send read parse build check edit drop merge split start stop open close handle'.split(
    ' ',
  )
const nouns =
  'Message User Mission Token Button Reply Queue Batch Page Filter Result Report Session Socket Event Topic Cursor Draft Task Budget'.split(
    ' ',
  )
const ends = ['', 'ById', 'List', 'Async', 'V2', 'Cache', 'Handler', 'Config', 'Or Null', 'For Test'].map((end) =>
  end.replace(' ', ''),
)

/** A number below `n`, the same in every run. */
const makeRandom = () => {
  let state = 20250101
  return (n: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * n)
  }
}

/** The sentences and pieces of code that messages consist of. */
export const makeTexts = () => {
  const random = makeRandom()
  // Word frequencies are skewed, as in natural text.
  const pick = <T>(some: T[]): T => some[Math.floor(some.length * (random(1_000_000) / 1_000_000) ** 3)] as T
  const identifier = (): string => `${pick(verbs)}${pick(nouns)}${pick(ends)}${random(3) === 0 ? random(40) : ''}`
  const sentence = (): string => {
    const words = Array.from({ length: 6 + random(14) }, () => (random(12) === 0 ? identifier() : pick(plain)))
    const text = words.join(' ')
    return `${text[0]?.toUpperCase()}${text.slice(1)}${'.?!'[random(3)]}`
  }
  const codes: ((a: string, b: string) => { language: string; code: string })[] = [
    (a, b) => ({
      language: 'python',
      code: `def ${a}(update, context):\n    value = ${b}(update.chat_id)\n    return value or None\n`,
    }),
    (a, b) => ({ language: 'python', code: `for item in ${a}():\n    print(item, ${b}(item))\n` }),
    (a, b) => ({
      language: 'typescript',
      code: `export const ${a} = async (id: string): Promise<void> => {\n  await ${b}(id)\n}\n`,
    }),
    (a, b) => ({ language: 'sql', code: `select ${a}, count(*) from ${b} group by 1 order by 2 desc;\n` }),
    (a, b) => ({ language: 'bash', code: `npm run ${a} -- --${b} && tail -n 20 log/${a}.log\n` }),
    (a, b) => ({
      language: 'rust',
      code: `fn ${a}(input: &str) -> Result<Vec<u8>, Error> {\n    ${b}(input)?.collect()\n}\n`,
    }),
  ]
  return {
    sentences: Array.from({ length: 40_000 }, sentence),
    codes: Array.from({ length: 4000 }, () => pick(codes)(identifier(), identifier())),
  }
}

/** Runs `work` without the table's indexes, then rebuilds them: twice as fast for millions of rows. */
const withoutIndexes = async (admin: pg.Client, work: () => Promise<void>): Promise<void> => {
  const { rows } = await admin.query<{ indexname: string; indexdef: string }>(
    `select indexname, indexdef from pg_indexes where tablename = 'chat_messages' and indexname <> 'chat_messages_pkey'`,
  )
  await admin.query('alter table chat_messages drop constraint chat_messages_pkey')
  for (const { indexname } of rows) await admin.query(`drop index ${indexname}`)
  await work()
  await admin.query(`set maintenance_work_mem = '512MB'`)
  for (const { indexdef } of rows) await admin.query(indexdef)
  await admin.query('alter table chat_messages add primary key (id)')
  await admin.query('analyze chat_messages')
}

export type Generated = { mission: string; citizen: string; messages: number }

/** The chats of a database that was filled before, the longest first. */
export const generated = async (admin: pg.Client): Promise<Generated[]> => {
  const { rows } = await admin.query<{ mission: string; citizen: string; messages: string }>(
    'select mission_id as mission, citizen, max(seq) as messages from chat_messages group by 1, 2 order by 3 desc',
  )
  return rows.map(({ messages, ...chat }) => ({ ...chat, messages: Number(messages) }))
}

/**
 * Writes `count` messages into empty chats of the missions. Returns the chats, the longest first. `seldom` is in one message of 10,000,
 * `needle` in a single one. `admin` must be a superuser, because only the role `replica` allows given seqs. The first mission also has
 * test runs.
 */
export const generate = async (
  admin: pg.Client,
  missions: string[],
  count: number,
  tell: (done: number) => void = () => {},
): Promise<Generated[]> => {
  const { sentences, codes } = makeTexts()
  await admin.query(
    `set session_replication_role = replica; set synchronous_commit = off; set work_mem = '64MB'; select setseed(0.5)`,
  )
  await admin.query(`
    create temp table sentences (id integer primary key, text text not null);
    create temp table codes (id integer primary key, language text not null, code text not null);
    create temp table chats (id integer primary key, mission uuid not null, citizen text not null, total bigint not null default 0)`)
  await admin.query('insert into sentences select n, t from unnest($1::text[]) with ordinality x (t, n)', [sentences])
  await admin.query(
    `insert into codes select n, c ->> 'language', c ->> 'code' from jsonb_array_elements($1::jsonb) with ordinality x (c, n)`,
    [JSON.stringify(codes)],
  )
  await admin.query(
    `insert into chats (id, mission, citizen) select (m.n - 1) * $3 + c.n - 1, m.id, c.name
     from unnest($1::uuid[]) with ordinality m (id, n), unnest($2::text[]) with ordinality c (name, n)`,
    [missions, citizens, citizens.length],
  )
  await admin.query('analyze sentences, codes, chats')
  const step = 50_000
  const seconds = (200 * 86_400) / count
  await withoutIndexes(admin, async () => {
    for (let from = 1; from <= count; from += step) {
      const to = Math.min(count, from + step - 1)
      await admin.query(
        `with picked as materialized (
           select n, floor($3 * power(random(), 3))::int as chat, 1 + floor($4 * random())::int as a, 1 + floor($4 * random())::int as b,
             random() as long, random() as coded, 1 + floor($5 * random())::int as code, random() as hash
           from generate_series($1::integer, $2::integer) n),
         written as (
           insert into chat_messages (mission_id, citizen, sender, author, message, code_blocks, created_at, seq, at)
           select c.mission, c.citizen, case when p.n % 3 = 0 then 'citizen' else 'user' end,
             case when p.n % 3 = 0 then c.citizen else 'alice' end,
             one.text || case when p.long < 0.6 then ' ' || two.text else '' end
               || case when p.hash < 0.05 then ' (commit ' || substr(md5(p.n::text), 1, 8) || ')' else '' end
               || case when p.n % 10000 = 0 then ' A seldom case.' else '' end
               || case when p.n = $6 then ' The needle is here.' else '' end
               || case when p.coded < 0.1 then E'\\n\\n\`\`\`' || k.language || E'\\n' || k.code || E'\`\`\`\\n' else '' end,
             case when p.coded < 0.125 then jsonb_build_array(jsonb_build_object('language', k.language, 'code', k.code)) end,
             t.at, c.total + row_number() over (partition by p.chat order by p.n), t.at
           from picked p
           join chats c on c.id = p.chat join sentences one on one.id = p.a join sentences two on two.id = p.b join codes k on k.id = p.code
           cross join lateral (select date_trunc('milliseconds', timestamp '2025-01-01' + p.n * $7::float8 * interval '1 second') as at) t
           order by p.n)
         update chats c set total = total + x.more from (select chat, count(*) as more from picked group by chat) x where x.chat = c.id`,
        [from, to, missions.length * citizens.length, sentences.length, codes.length, Math.floor(count / 3), seconds],
      )
      tell(to)
    }
  })
  await admin.query(
    `insert into deck.heads (topic) select 'missions/' || mission || '/chat/' || citizen from chats where total > 0 on conflict do nothing`,
  )
  await admin.query('set session_replication_role = origin')
  const { rows } = await admin.query<{ mission: string; citizen: string; messages: string }>(
    'select mission, citizen, total as messages from chats order by total desc, id',
  )
  await admin.query(
    `insert into test_runs (mission_id, status, summary, results, created_at)
     select $1, case when n % 4 = 0 then 'failed' else 'passed' end, jsonb_build_object('total', 50, 'build', n),
       (select jsonb_agg(jsonb_build_object('name', 'case ' || i || ' of the suite', 'status', case when n % 4 = 0 and i = 7 then 'failed' else 'passed' end)
          || case when n % 4 = 0 and i = 7 then jsonb_build_object('error', 'expected ' || n || ' but was null') else '{}' end)
        from generate_series(1, 50) i),
       timestamp '2025-01-01' + n * interval '1 hour'
     from generate_series(1, 1000) n`,
    [missions[0]],
  )
  await admin.query('drop table sentences, codes, chats; reset work_mem; reset synchronous_commit')
  await admin.query('vacuum analyze chat_messages, deck.heads, test_runs')
  return rows.map(({ messages, ...chat }) => ({ ...chat, messages: Number(messages) }))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , count = '', url = ''] = process.argv
  const admin = new pg.Client({ connectionString: url })
  await admin.connect()
  const { rows } = await admin.query<{ id: string }>(
    `insert into missions (title, client, budget, deadline, status, assigned_to)
     select 'bench', 'bench', 1, now(), 'active', 'alice' from generate_series(1, 40) returning id`,
  )
  const chats = await generate(
    admin,
    rows.map(({ id }) => id),
    Number(count),
    (done) => process.stderr.write(`\r${done}`),
  )
  for (const { mission, citizen, messages } of chats.slice(0, 5))
    process.stdout.write(`missions/${mission}/chat/${citizen} ${messages}\n`)
  await admin.end()
}
