// What one call costs the backend that runs it: CPU of its process, statements in a tight loop over one connection, in turn. The commit is
// asynchronous: a durable one adds the same to each.
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import pg from 'pg'
import { settings } from '../src/database/postgres/session-settings.ts'
import { callOf } from '../src/database/write/append-call.ts'
import { newId, type Pending } from '../src/database/write/pending-message.ts'
import { cpuOf } from './system.ts'
import { freshDatabase, type Postgres } from './targets.ts'

const [rounds, calls, chats] = [15, 300, 20]
const text = 'x'.repeat(200)
const cli = fileURLToPath(new URL('../../../dist/cli/index.js', import.meta.url))
const options = Object.entries({ ...settings, synchronous_commit: 'off' })
  .map(([name, value]) => `-c ${name}=${value.replaceAll(' ', '\\ ')}`)
  .join(' ')

// As the server's sessions, which read JSON as text.
const types: pg.CustomTypesConfig = {
  getTypeParser: (oid: number, format: 'text' | 'binary' = 'text') =>
    oid === 114
      ? (text: string) => text
      : (pg.types.getTypeParser as (oid: number, format: string) => (text: string) => unknown)(oid, format),
}

const tutorial = `
  create table posts (id bigserial primary key, room text not null, message text not null, created_at timestamptz not null default now());
  create function announce() returns trigger language plpgsql as $$
    begin perform pg_notify('posts', row_to_json(new)::text); return null; end $$;
  create trigger announce after insert on posts for each row execute function announce();`

/** A message of the writer, as it is handed to its call. */
const pending = (mission: string, key: boolean, again = false): Pending => ({
  before: undefined,
  after: undefined,
  entry: {
    topic: `missions/${mission}/chat/rafael`,
    id: newId(),
    sender: 'user',
    author: 'alice',
    assigned: null,
    message: text,
    code_blocks: null,
    reply_to: null,
    key: key ? randomUUID() : null,
  },
  bytes: 0,
  mission,
  citizen: 'rafael',
  since: 0,
  due: Infinity,
  again,
  inFlight: false,
  settled: false,
  resolve() {},
  reject() {},
})

/** Backend CPU of the writer's calls, beside a tutorial's INSERT with a trigger that notifies. */
export const callCosts = async (postgres: Postgres): Promise<string> => {
  const url = await freshDatabase(postgres, 'bench_calls')
  await promisify(execFile)(process.execPath, [cli, 'migrate'], { env: { ...process.env, DATABASE_URL: url } })
  const client = new pg.Client({ connectionString: url, options, types })
  // (If the study fails, Postgres is stopped before the client.)
  client.on('error', () => {})
  await client.connect()
  await client.query(tutorial)
  const { rows } = await client.query<{ id: string }>(
    `insert into missions (title, client, budget, deadline, status, assigned_to)
     select 'bench', 'bench', 1, now(), 'active', 'alice' from generate_series(1, ${chats}) returning id`,
  )
  await client.query(
    `insert into chat_messages (mission_id, citizen, sender, message) select id, 'rafael', 'user', 'first' from missions`,
  )
  const pid = (await client.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]?.pid ?? 0
  let n = 0
  const mission = (): string => rows[n++ % chats]?.id ?? ''
  const batch = (size: number, key = false) => {
    const entries = Array.from({ length: size }, () => pending(mission(), key))
    return callOf(entries, 0, 'bench').run(client)
  }
  // (`again`: a message that may be stored already takes the batch's call.)
  const asBatch = (key: boolean) => callOf([pending(mission(), key, true)], 0, 'bench').run(client)
  const kinds: [name: string, messages: number, call: () => Promise<unknown>][] = [
    ['select 1', 1, () => client.query({ name: 'one', text: 'select 1' })],
    [
      'INSERT + trigger + NOTIFY (tutorial)',
      1,
      () =>
        client.query({ name: 'post', text: 'insert into posts (room, message) values ($1, $2)', values: ['a', text] }),
    ],
    ['append_message', 1, () => batch(1)],
    ['append_message, with a key', 1, () => batch(1, true)],
    ['append_messages of one that is sent again', 1, () => asBatch(false)],
    ...[2, 4, 20, 200].map((size): [string, number, () => Promise<unknown>] => [
      `append_messages of ${size}`,
      size,
      () => batch(size),
    ]),
  ]
  const found = kinds.map((): number[] => [])
  for (let round = 0; round <= rounds; round++)
    for (const [i, [, messages, call]] of kinds.entries()) {
      const count = Math.ceil(calls / messages)
      const since = cpuOf([pid])
      for (let i = 0; i < count; i++) await call()
      // (The first round is warm-up.)
      if (round > 0) found[i]?.push((cpuOf([pid]) - since) / count)
    }
  await client.end()
  const lines = kinds.map(([name, messages], i) => {
    const costs = (found[i] ?? []).sort((a, b) => a - b)
    const [least = 0, middle = 0] = [costs[0], costs[costs.length >> 1]]
    return `| ${name} | ${least.toFixed(0)} | ${middle.toFixed(0)} | ${(middle / messages).toFixed(0)} |`
  })
  return [
    'A call, µs of CPU of its backend',
    '',
    '| call | least | median | a message |',
    '| --- | --: | --: | --: |',
    ...lines,
  ].join('\n')
}
