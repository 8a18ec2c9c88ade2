// The cost of pages of 50, filters and searches in 40 missions with SEARCH_ROWS (1,000,000) messages in total. They are measured after
// the search blocks are built, and with SEARCH_BEFORE=1 also before. The cost of building the blocks is measured, too.
// The plans of the statements are printed (auto_explain).
// The bench starts its own Postgres in SEARCH_DIR or .data, and removes it afterwards. With SEARCH_KEEP=1 it stays for the next run.
import { rm } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { makeSearch } from '../src/database/search/chat-search.ts'
import { openDatabase } from '../src/database/postgres/pools.ts'
import { startEmbedded } from '../src/database/embedded/index.ts'
import { makeFind } from '../src/database/search/mission-search.ts'
import { makeHistory } from '../src/database/read/chat-history.ts'
import { makeTurns } from '../src/database/postgres/mutex.ts'
import { generate, generated, type Generated } from './generate.ts'
import { cpuOf, cpuOfFamily } from './system.ts'
import { postgresIn, startDeck, type Target } from './targets.ts'

const print = (line: string): void => void process.stdout.write(`${line}\n`)
const seconds = (since: number): string => ((performance.now() - since) / 1000).toFixed(1)

type Queries = Record<string, Record<string, string>>
/** Queries of a chat. */
const filters: Queries = {
  'no filter': {},
  'a frequent word': { q: 'message' },
  'a frequent word, by rank, highlighted': { q: 'message', order: 'rank', highlight: 'true' },
  'two frequent words': { q: 'deadline customer' },
  'a phrase of frequent words': { q: '"of the"' },
  'frequent words without another': { q: 'message -the' },
  'an identifier': { q: 'rareIdentifier' },
  'a word in one of 10,000': { q: 'seldom' },
  'a word in one message of all': { q: 'needle' },
  'a word in none': { q: 'haystack' },
  'a phrase in none': { q: '"seldom needle"' },
  'a phrase of frequent words, seldom': { q: '"the the message"' },
  'a language in one of 50': { language: 'python' },
  'a language in none': { language: 'cobol' },
  'a sender': { sender: 'citizen' },
  'an hour in the middle': { since: '2025-04-10T00:00:00Z', until: '2025-04-10T01:00:00Z' },
}
/** Queries of a mission. */
const searches: Queries = {
  'a frequent word': { q: 'message' },
  'a frequent word, by rank': { q: 'message', order: 'rank' },
  'two frequent words': { q: 'deadline customer' },
  'a phrase of frequent words': { q: '"of the"' },
  'an identifier': { q: 'rareIdentifier' },
  'an identifier in code': { q: 'rareIdentifier', kind: 'code' },
  'a word of all code': { q: 'value', kind: 'code' },
  'a frequent word that is in no code': { q: 'deadline', kind: 'code' },
  'a word in one of 10,000': { q: 'seldom' },
  'a word in one message of all': { q: 'needle' },
  'a word in none': { q: 'haystack' },
  'a test': { q: 'expected null', kind: 'test' },
  'a test in none': { q: 'haystack', kind: 'test' },
  'a frequent word in a day': { q: 'message', since: '2025-04-10T00:00:00Z', until: '2025-04-11T00:00:00Z' },
}
/** The queries whose plans are printed. */
const explained = ['an identifier', 'a frequent word, by rank', 'a word in one of 10,000', 'two frequent words']

/** Runs queries again, and prints each statement's plan, including nested statements. */
const plans = async (adminUrl: string, chat: Generated): Promise<void> => {
  // Reads use one connection, so its notices belong to the query.
  const database = openDatabase({ url: adminUrl, directUrl: adminUrl, poolMax: 4 }, () => {})
  const told: string[] = []
  database.main.on('connect', (client) => client.on('notice', ({ message = '' }) => told.push(message)))
  await database.main
    .query(`load 'auto_explain'; set auto_explain.log_min_duration = 0; set auto_explain.log_analyze = on; set auto_explain.log_buffers = on;
      set auto_explain.log_nested_statements = on; set auto_explain.log_parameter_max_length = 0; set client_min_messages = log`)
  const how = { sub: 'bench', allow: () => {}, gone: () => false }
  const looking = makeTurns()
  const search = makeSearch(database.main, looking, 60_000)
  const find = makeFind(database.main, looking, 60_000)
  const history = makeHistory(database.main)
  const ref = { id: chat.mission }
  const show = async (what: string, work: () => Promise<unknown>): Promise<void> => {
    await work()
    told.length = 0
    await work()
    // Only each statement's first plan. One-line functions (words, epochs) are skipped.
    const shown = new Map<string, string>()
    for (const plan of told) {
      const [, duration = '', text = '', nodes = ''] =
        /^duration: ([\d.]+) ms {2}plan:\nQuery Text: ([^]*?)\n(?=[A-Z][\w ]+ {2}\()([^]*)$/.exec(plan) ?? []
      if (text.includes('\n') && !text.includes('pg_control_system') && !shown.has(text))
        shown.set(text, `${duration} ms\n${nodes}`)
    }
    print(`\n### ${what}: ${told.length} statements\n\n\`\`\`text\n${[...shown.values()].join('\n\n')}\n\`\`\``)
  }
  await show('page: newest', () => history.page(ref, chat.citizen, { limit: 50 }))
  for (const name of explained) {
    const { order, ...filter } = filters[name] ?? {}
    if (name in filters)
      await show(`page: ${name}`, () =>
        search.page(ref, chat.citizen, { limit: 50, ...filter }, how, { byRank: order === 'rank' }),
      )
    const asked = searches[name] as { q: string; order?: 'rank' } | undefined
    if (asked) await show(`search: ${name}`, () => find(ref, { limit: 50, ...asked }, how))
  }
  await database.close()
}

export const search = async (): Promise<void> => {
  let count = Number(process.env['SEARCH_ROWS'] ?? 1_000_000)
  const keep = process.env['SEARCH_KEEP'] === '1'
  const dir = process.env['SEARCH_DIR'] ?? fileURLToPath(new URL('../../../.data/bench/search', import.meta.url))
  const embedded = await startEmbedded({ dir, settings: { max_connections: '100', max_wal_size: '8GB' } })
  let target: Target | undefined
  try {
    const probe = new pg.Client({ connectionString: embedded.adminUrl })
    await probe.connect()
    const kept = keep && (await probe.query(`select from pg_database where datname = 'bench_deck'`)).rowCount === 1
    await probe.end()
    const postgres = postgresIn(dir, embedded.adminUrl)
    const { pid } = postgres
    const there = new URL(embedded.adminUrl)
    there.pathname = '/bench_deck'
    target = await startDeck(postgres, 1, kept ? 0 : 40, kept ? there.href : undefined)
    const { urls, token, pids, database, topics } = target
    const admin = new pg.Client({ connectionString: database })
    await admin.connect()
    const ask = async (path: string, query: Record<string, string>): Promise<{ ms: number; n: number }> => {
      const since = performance.now()
      const response = await fetch(
        `${urls[0]?.replace('ws', 'http')}/api/missions/${path}?${new URLSearchParams(query).toString()}`,
        {
          headers: { authorization: `Bearer ${token}` },
        },
      )
      const { messages, hits } = (await response.json()) as { messages?: unknown[]; hits?: unknown[] }
      return {
        ms: performance.now() - since,
        n: response.status === 200 ? (messages ?? hits ?? []).length : -response.status,
      }
    }
    const pages = async (what: string, path: string, queries: Queries, rounds: number): Promise<void> => {
      print(`\n| ${what} | ms, median | ms, the first | ms of CPU | found |\n| --- | --: | --: | --: | --: |`)
      for (const [name, query] of Object.entries(queries)) {
        const taken: number[] = []
        let n = 0
        const used = cpuOf(pids) + cpuOfFamily(pid)
        for (let i = 0; i < rounds && (taken[0] ?? 0) < 5000; i++) {
          const page = await ask(path, query)
          n = page.n
          taken.push(page.ms)
        }
        const [first = 0] = taken
        const cpu = (cpuOf(pids) + cpuOfFamily(pid) - used) / taken.length / 1000
        print(
          `| ${name} | ${taken.toSorted((a, b) => a - b)[taken.length >> 1]?.toFixed(1)} | ${first.toFixed(1)} | ${cpu.toFixed(1)} | ${n} |`,
        )
      }
    }
    const hold = (time: number) =>
      admin.query(`update deck.search_turn set holder = 'bench', until = clock_timestamp() + $1 * interval '1 s'`, [
        time,
      ])
    await hold(36_000)

    let since = performance.now()
    const made = (): Promise<Generated[]> =>
      generate(
        admin,
        topics.map((topic) => topic.slice(9, 45)),
        count,
      )
    const chats = kept ? await generated(admin) : await made()
    count = chats.reduce((sum, chat) => sum + chat.messages, 0)
    print(`${count} messages in ${chats.length} chats: ${seconds(since)} s, indexes and vacuum included`)
    const [longest] = chats
    if (!longest) throw new Error('no chat')
    const { mission, citizen, messages } = longest
    const ofMission = chats.reduce((sum, chat) => sum + (chat.mission === mission ? chat.messages : 0), 0)
    const chat = `${mission}/chat/${citizen}`
    const { rows: rare } = await admin.query<{ word: string }>(
      `select (regexp_match(code_blocks -> 0 ->> 'code', '[a-z]+[A-Z][A-Za-z]+\\d+'))[1] as word from chat_messages
       where mission_id = $1 and citizen = $2 and seq > $3 and code_blocks -> 0 ->> 'code' ~ '[a-z]+[A-Z][A-Za-z]+\\d+' order by seq limit 1`,
      [mission, citizen, Math.floor(messages / 2)],
    )
    for (const query of [...Object.values(filters), ...Object.values(searches)])
      if (query['q'] === 'rareIdentifier') query['q'] = rare[0]?.word ?? ''
    const all = async (when: string, rounds: number): Promise<void> => {
      await pages(`${when}, a chat of ${messages}: the newest`, chat, filters, rounds)
      await pages(`${when}, a mission of ${ofMission}`, `${mission}/search`, searches, rounds)
    }
    if (process.env['SEARCH_BEFORE'] === '1') await all('no blocks yet', 1)

    const before = { server: cpuOf(pids), postgres: cpuOfFamily(pid) }
    since = performance.now()
    if (process.env['SEARCH_PACE'] === 'own') {
      await hold(-1)
      for (;;) {
        const { rows } = await admin.query(`select from deck.search_due() limit 1`)
        if (rows.length === 0) break
        await new Promise((resolve) => setTimeout(resolve, 1000))
      }
    } else
      for (const chat of chats)
        for (;;) {
          const { rows } = await admin.query<{ n: number }>('select deck.search_index($1, $2, 16) as n', [
            chat.mission,
            chat.citizen,
          ])
          if (rows[0]?.n !== 16) break
        }
    print(
      `\nblocks: ${seconds(since)} s, CPU ${((cpuOf(pids) - before.server) / count).toFixed(1)} + ` +
        `${((cpuOfFamily(pid) - before.postgres) / count).toFixed(1)} µs/message`,
    )
    await admin.query('vacuum analyze deck.search_blocks')
    const { rows: sizes } = await admin.query<Record<string, string>>(
      `select count(*) as blocks, pg_size_pretty(pg_total_relation_size('deck.search_blocks')) as "blocks with index",
         pg_size_pretty(pg_relation_size('deck.search_blocks_words')) as "index of words",
         pg_size_pretty(pg_total_relation_size('chat_messages')) as "messages with indexes",
         pg_size_pretty(pg_relation_size('chat_messages')) as messages, pg_size_pretty(pg_database_size(current_database())) as database
       from deck.search_blocks`,
    )
    print(JSON.stringify(sizes[0]))
    await all('with blocks', 5)
    const adminUrl = new URL(embedded.adminUrl)
    adminUrl.pathname = new URL(database).pathname
    await plans(adminUrl.href, longest)
    await admin.end()
  } finally {
    await target?.stop()
    await embedded.stop()
    if (!keep) await rm(dir, { recursive: true, force: true })
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await search()
