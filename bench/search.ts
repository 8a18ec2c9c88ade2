// What filters cost: a page of 50 in a chat of SEARCH_ROWS (1,000,000) messages, before its blocks are there and after, and what
// the blocks cost to make. Words are of a vocabulary of 20,000, some frequent and some rare; one message in 100 has a code block.
// Its Postgres is its own, and removed afterwards.
import { rm } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { startEmbedded } from '../src/log/embedded.ts'
import { cpuOf, cpuOfFamily } from './system.ts'
import { pidOfPostgres, startDeck } from './targets.ts'

const count = Number(process.env['SEARCH_ROWS'] ?? 1_000_000)
const print = (line: string): void => void process.stdout.write(`${line}\n`)

/** Messages of 200 bytes or so, written as a SQL writer does; `needle` is in one of them. */
const fill = (admin: pg.Client, mission: string, from: number, to: number): Promise<unknown> =>
  admin.query(
    `insert into chat_messages (mission_id, citizen, sender, message, code_blocks, created_at)
     select $1, 'rafael', case when n % 10000 = 0 then 'citizen' else 'user' end,
       'the message ' || case when n % 2 = 0 then 'even ' else 'odd ' end || case when n = $4 then 'needle ' else '' end
         || case when n % 10000 = 0 then 'seldom ' else '' end
         || (select string_agg('w' || (20000 * power(random(), 3))::int, ' ') from generate_series(1, 24 + n % 2)),
       case when n % 100 = 0 then jsonb_build_array(jsonb_build_object('language',
         case when n % 50000 = 0 then 'zig' else 'python' end, 'code', 'print(1)')) end,
       timestamp '2025-01-01' + n * interval '1 second'
     from generate_series($2::integer, $3::integer) n`,
    [mission, from, to, Math.floor(count / 3)],
  )
const at = (n: number): string => new Date(Date.UTC(2025, 0, 1, 0, 0, n)).toISOString()
const queries: Record<string, Record<string, string>> = {
  'no filter': {},
  'a frequent word': { q: 'message' },
  'frequent words, never together': { q: 'even odd' },
  'a word in one of 10,000': { q: 'seldom' },
  'a word in one message': { q: 'needle' },
  'a word in none': { q: 'haystack' },
  'a phrase in one': { q: '"odd needle" or "even needle"' },
  'a phrase of frequent words in none': { q: '"message the"' },
  'a language in one of 100': { language: 'python' },
  'a language in one of 50,000': { language: 'Zig' },
  'a language in none': { language: 'cobol' },
  'a sender in one of 10,000': { sender: 'citizen' },
  'an hour in the middle': { since: at(count / 2), until: at(count / 2 + 3600) },
  'before all of it': { until: '2024-01-01T00:00:00Z' },
}

const dir = fileURLToPath(new URL('../../../.data/bench/search', import.meta.url))
const embedded = await startEmbedded({ dir, settings: { max_connections: '100', max_wal_size: '4GB' } })
let target: Awaited<ReturnType<typeof startDeck>> | undefined
try {
  const probe = new pg.Client({ connectionString: embedded.adminUrl })
  await probe.connect()
  const found = await probe.query<{ dir: string }>(`select current_setting('data_directory') as dir`)
  await probe.end()
  const pid = pidOfPostgres(found.rows[0]?.dir ?? dir)
  target = await startDeck({ adminUrl: embedded.adminUrl, pid }, 1, 1)
  const { urls, token, pids, database, topics } = target
  const admin = new pg.Client({ connectionString: database })
  await admin.connect()
  const mission = topics[0]?.split('/')[1] ?? ''
  const chat = `${urls[0]?.replace('ws', 'http')}/api/missions/${mission}/chat/rafael`
  const ask = async (query: Record<string, string>): Promise<{ ms: number; n: number; status: number }> => {
    const since = performance.now()
    const response = await fetch(`${chat}?${new URLSearchParams(query).toString()}`, {
      headers: { authorization: `Bearer ${token}` },
    })
    const { messages = [] } = (await response.json()) as { messages?: unknown[] }
    return { ms: performance.now() - since, n: messages.length, status: response.status }
  }
  const pages = async (what: string, rounds: number): Promise<void> => {
    print(`| page of 50, ${what} | ms, the newest | ms, the oldest | found |`)
    for (const [name, query] of Object.entries(queries)) {
      const times = []
      let n = 0
      for (const bounds of [{}, { after: '0' }]) {
        const taken: number[] = []
        for (let i = 0; i < rounds && (taken[0] ?? 0) < 1000; i++) {
          const page = await ask({ ...query, ...bounds })
          if (page.status !== 200) n = -page.status
          else n = page.n
          taken.push(page.ms)
        }
        times.push(taken.sort((a, b) => a - b)[taken.length >> 1]?.toFixed(1))
      }
      print(`| ${name} | ${times.join(' | ')} | ${n} |`)
    }
  }
  const hold = (seconds: number) =>
    admin.query(`update deck.search_turn set holder = 'bench', until = clock_timestamp() + $1 * interval '1 s'`, [
      seconds,
    ])

  await hold(3600)
  const since = performance.now()
  for (let n = 1; n <= count; n += 20_000) await fill(admin, mission, n, Math.min(count, n + 19_999))
  print(`${count} messages by SQL: ${(count / (performance.now() - since) / 1e-3).toFixed(0)}/s`)
  await admin.query('vacuum analyze chat_messages')
  await pages('no blocks yet', 1)
  const before = { server: cpuOf(pids), postgres: cpuOfFamily(pid), at: performance.now() }
  if (process.env['SEARCH_PACE'] === 'own') {
    await hold(-1)
    for (;;) {
      const { rows } = await admin.query<{ last: string }>(
        'select coalesce(max(last), 0) as last from deck.search_blocks',
      )
      if (Number(rows[0]?.last) > count - 500) break
      await new Promise((resolve) => setTimeout(resolve, 1000))
    }
  } else
    for (;;) {
      const { rows } = await admin.query<{ n: number }>(`select deck.search_index($1, 'rafael', 4) as n`, [mission])
      if (rows[0]?.n !== 4) break
    }
  print(
    `blocks: ${((performance.now() - before.at) / 1000).toFixed(1)} s, CPU ${((cpuOf(pids) - before.server) / count).toFixed(1)} + ` +
      `${((cpuOfFamily(pid) - before.postgres) / count).toFixed(1)} µs/message`,
  )
  const { rows: sizes } = await admin.query<Record<string, string>>(
    `select count(*) as blocks, pg_size_pretty(pg_total_relation_size('deck.search_blocks')) as size,
       pg_size_pretty(pg_relation_size('deck.search_blocks_words')) as words,
       pg_size_pretty(pg_total_relation_size('chat_messages')) as messages from deck.search_blocks`,
  )
  print(JSON.stringify(sizes[0]))
  await pages('with blocks', 5)
  await admin.end()
} finally {
  await target?.stop()
  await embedded.stop()
  await rm(dir, { recursive: true, force: true })
}
