// Search splits text into the same words in every database, whatever its locale, locale provider and version of Postgres. A simple
// model of the rule (docs/search.md) gives the expected words. Set TEST_DATABASE_URL to test a different server.
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import fc from 'fast-check'
import pg from 'pg'
import t, { type Test } from 'tap'
import { migrate } from '../../src/database/postgres/migrate.ts'
import { wordsOf } from '../../src/database/search/highlight.ts'
import { lookUp } from '../../src/database/search/tsquery.ts'
import { freshDatabase, type FreshDatabase } from '../support/database.ts'
import { alice, startInstance, until, type Door, type Instance, type Json } from '../support/server.ts'
import { fill, lines, newChat } from '../support/stream-readers.ts'

// The model, with Node's Unicode data.

const unspaced =
  /(?=[\p{L}\p{N}])[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{sc=Thai}\p{sc=Lao}\p{sc=Khmer}\p{sc=Myanmar}]\p{M}*/gu
const fold = (word: string): string =>
  Array.from(word.normalize('NFC'), (c) => (c === 'İ' ? 'i' : c.toUpperCase().toLowerCase()))
    .join('')
    .normalize('NFC')
/** A text's words. */
const words = (text: string): string[] =>
  text
    .replace(/[\p{Default_Ignorable_Code_Point}\p{Me}]/gu, ' ')
    .match(/[\p{L}\p{N}][\p{L}\p{N}\p{M}]*/gu)
    ?.flatMap((run) => fold(run).replace(unspaced, ' $& ').trim().split(/ +/)) ?? []
const hasPhrase = (all: string[], phrase: string[]): boolean =>
  all.some((_, i) => phrase.every((word, j) => all[i + j] === word))
/** Whether a text matches a query: it has every phrase without `-` and none with it. `or` separates alternatives. */
const fits = (text: string, q: string): boolean =>
  q.split(/ or /).some((alternative) =>
    (alternative.match(/-?"[^"]*"|\S+/g) ?? [])
      .map((part) => ({ not: part.startsWith('-'), phrase: words(part) }))
      .filter(({ phrase }) => phrase.length > 0)
      .every(({ not, phrase }) => hasPhrase(words(text), phrase) !== not),
  )

const texts = [
  'He said “hello” — wait… deploy🎉 尊厳、権利',
  '‘single’, «guillemets», „tief“ and 「鉤括弧」・中黒',
  'en–dash em—dash non‑breaking‑hyphen soft\u00adhyphen minus−sign',
  'no\u00a0break\u202fspaces\u3000wide\u2009thin\u200bzero',
  '✅done ❌failed ⚠️careful →next 1️⃣first 👩‍💻coder ok👍🏽',
  'café naïve Ångström über STRASSE', // NFC
  'cafe\u0301 nai\u0308ve A\u030angstro\u0308m u\u0308ber Straße', // NFD
  'すべての人間は、生まれながらにして自由であり、尊厳と権利とについて平等である。',
  '人人生而自由，在尊严和权利上一律平等。Python3で動く',
  '모든 인간은 태어날 때부터 자유로우며',
  'ภาษาไทยไม่มีช่องว่าง ok',
  'chat_id sendMessage(bot.chat_id) vector<int> std::map #tag @alice',
  'src/database/search/tsquery.ts C:\\Temp\\a.txt ~/x-y.z https://example.org/a?b=c&d=100%',
  'ПРИВЕТ, Мир! ΟΔΟΣ οδός İstanbul ışık ſtop \u212aelvin ﬁne',
  '2024-01-15 v1.2.3 -5 1e5 0x1F ½ x² Ⅷ ３',
  "don’t o’neill it's l’été",
  'नमस्ते दुनिया العَرَبِيَّة שָׁלוֹם',
  '`code` **bold** _em_ [link](url) | table | {"json":"wert"}',
]
const queries = [
  ...[
    'hello',
    'wait',
    'deploy',
    '権利',
    '尊厳',
    '尊厳権利',
    '“hello”',
    'wait…',
    'dash',
    '"non breaking hyphen"',
    'hyphen',
  ],
  ...[
    'softhyphen',
    'sign',
    'break',
    'spaces',
    'wide',
    'zero',
    'done',
    'careful',
    'next',
    'first',
    'coder',
    'ok',
    'café',
  ],
  ...[
    'CAFE\u0301',
    'cafe',
    'ångström',
    'A\u030aNGSTRO\u0308M',
    'ÜBER',
    'straße',
    'strasse',
    '人間',
    '自由',
    '間人',
    '平等',
    '权利',
  ],
  ...[
    'python3',
    '動く',
    '인간은',
    '인간',
    'ไทย',
    'chat_id',
    'sendmessage',
    'bot.chat_id',
    'int',
    'tag',
    'alice',
    'words.ts',
  ],
  ...[
    'temp',
    'x-y.z',
    'example.org',
    '100%',
    'привет',
    'МИР',
    'οδοσ',
    'ΟΔΌΣ',
    'istanbul',
    'IŞIK',
    'stop',
    'kelvin',
    'fine',
  ],
  ...[
    '01',
    '2024-01-15',
    '5',
    '1E5',
    'x²',
    'ⅷ',
    '３',
    '"don t"',
    'o’neill',
    'été',
    'नमस्ते',
    'العَرَبِيَّة',
    'שָׁלוֹם',
    'code',
    'em',
  ],
  ...[
    'json wert',
    'hello -deploy',
    'nowhere or 自由',
    '"wait deploy"',
    '"deploy wait"',
    '-hello',
    'über -straße',
    'a',
    '中黒',
  ],
]

/** Queries that do not match empty messages. */
const positive = queries.filter((q) => !fits('', q))

// A database for each locale that the server supports.

const libc = (name: string): string => `encoding 'UTF8' locale_provider libc lc_collate '${name}' lc_ctype '${name}'`
const locales: Record<string, string> = {
  default: '',
  'LC_CTYPE C': libc('C'),
  'LC_CTYPE C.UTF-8': libc('C.UTF-8'),
  'LC_CTYPE en_US.UTF-8': libc('en_US.UTF-8'),
  'ICU, Turkish': `encoding 'UTF8' locale_provider icu icu_locale 'tr' lc_collate 'C' lc_ctype 'C'`,
}
const stateOf = (error: unknown): string => (error instanceof pg.DatabaseError && error.code) || ''
/** Creates a database of this locale. Returns the error text if the server does not support it. */
const databaseOf = (t: Test, locale: string): Promise<FreshDatabase | string> =>
  freshDatabase(t, false, locale).catch((error: unknown) => {
    // Postgres 14 has no locale providers, and always uses libc.
    if (stateOf(error) === '42601' && locale.includes('libc'))
      return databaseOf(t, locale.replace('locale_provider libc', ''))
    if (['22023', '0A000', '42601', '42809'].includes(stateOf(error))) return String(error)
    throw error
  })
/** Runs `work` on a database of each locale, and reports locales that the server does not support. */
const onEach = async (t: Test, work: (t: Test, database: FreshDatabase) => Promise<void>): Promise<void> => {
  let n = 0
  for (const [name, locale] of Object.entries(locales))
    await t.test(name, async (t) => {
      const database = await databaseOf(t, locale)
      if (typeof database === 'string') return t.pass(`skipped: this server has no such database: ${database}`)
      n++
      await work(t, database)
    })
  t.ok(n >= 3, `${n} locales`)
}
const start = (t: Test, { url }: FreshDatabase): Promise<Instance> =>
  startInstance(t, url, { limits: { pollEvery: 300 } })

/** Returns the seqs of a chat's messages that match a query. */
const find = async (door: Door, chat: string, q: string): Promise<number[]> => {
  const { status, text } = await door.request(
    'GET',
    `${chat}?${new URLSearchParams({ q }).toString()}`,
    alice,
    undefined,
    lines,
  )
  if (status !== 200) throw new Error(text)
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => Number((JSON.parse(line) as Json)['seq']))
}
const expected = (q: string): number[] => texts.flatMap((text, i) => (fits(text, q) ? [i + 1] : []))
const save = (database: FreshDatabase, id: string): Promise<unknown> =>
  database.query(
    `insert into chat_messages (mission_id, citizen, sender, message) select $1, 'rafael', 'user', m from unnest($2::text[]) with ordinality x (m, n) order by n`,
    [id, texts],
  )
/** Waits until the chat has a block of the current version of the rule. */
const indexed = (database: FreshDatabase, id: string): Promise<void> =>
  until(async () => {
    const [row] = await database.query(
      `select count(*)::int as n, bool_and(rule = deck.word_rule()) as now from deck.search_blocks where mission_id = $1`,
      [id],
    )
    return row?.['n'] === 1 && row['now'] === true
  }, 'the block')

void t.test('search words: queries find what the model finds, in every locale, with or without a block', async (t) => {
  t.ok(texts.length * queries.length >= 200)
  t.ok(queries.filter((q) => expected(q).length > 0).length > queries.length * 0.8, 'most queries find something')
  await onEach(t, async (t, database) => {
    const instance = await start(t, database)
    const { id, chat } = await newChat(instance)
    await save(database, id)
    const check = async (what: string): Promise<void> => {
      for (const q of queries) t.strictSame(await find(instance, chat, q), expected(q), `${what}: ${q}`)
    }
    await check('no block')
    await fill(database, id, 600, `''''`)
    await indexed(database, id)
    for (const q of positive) t.strictSame(await find(instance, chat, q), expected(q), `a block: ${q}`)
  })
})

void t.test('search words: mission search uses the same words, and highlights mark them', async (t) => {
  const database = await freshDatabase(t, true)
  const instance = await start(t, database)
  const { id } = await newChat(instance)
  await save(database, id)
  const marked = async (q: string): Promise<string[]> => {
    const { json } = await instance.request(
      'GET',
      `/api/missions/${id}/search?${new URLSearchParams({ q, kind: 'message' }).toString()}`,
      alice,
    )
    return (json['hits'] as { seq: number; snippet: { text: string; hits: [number, number][] } }[])
      .sort((a, b) => a.seq - b.seq)
      .flatMap(({ seq, snippet }) => snippet.hits.map(([at, size]) => `${seq} ${snippet.text.slice(at, at + size)}`))
  }
  t.strictSame(await marked('hello deploy'), ['1 hello', '1 deploy'])
  t.strictSame(await marked('権利'), ['1 権利', '8 権利'])
  t.strictSame(await marked('café'), ['6 café', '7 cafe\u0301'])
  t.strictSame(await marked('strasse'), ['6 STRASSE', '7 Straße'])
  t.strictSame(await marked('自由 or 権利'), ['1 権利', '8 自由', '8 権利', '9 自由'])
})

void t.test('search words: the status of a test result is recognized in every locale, also in capitals', async (t) => {
  await onEach(t, async (t, database) => {
    await migrate(await database.connect(), () => {})
    const rows = await database.query(
      `select deck.test_word(jsonb_build_object('status', s)) as word from unnest(array['SKIPPED', 'PENDING', 'Passed', 'FAILED', 'DISABLED']) as s`,
    )
    t.strictSame(
      rows.map(({ word }) => word),
      ['skipped', 'skipped', 'passed', 'failed', 'skipped'],
    )
  })
})

/** All characters of the Unicode planes with letters. */
const characters = Array.from({ length: 0x33500 }, (_, i) => i + 1).filter((code) => code < 0xd800 || code > 0xdfff)

void t.test('search words: Postgres and Node split all text into the same words, in every locale', async (t) => {
  const marks = ['\u0301', '\u0308', '\u0331', '\u0345', '\u3099', '\u200d', '\ufe0f', '\u0e31', ' ', '-']
  // Each character between letters, before and after a combining mark, and random mixtures.
  const all: string[] = []
  for (let i = 0; i < characters.length; i += 2000)
    all.push(
      characters
        .slice(i, i + 2000)
        .map((code) => String.fromCodePoint(code))
        .map((c, j) => `x${c}Y ${marks[(i + j) % marks.length]}${c}${marks[(i + j * 7) % marks.length]}`)
        .join(' . '),
    )
  const some = fc.constantFrom(
    'a',
    'H',
    'ß',
    'İ',
    'ẖ',
    'か',
    '権',
    'ก',
    'é',
    'Σ',
    '“',
    '🎉',
    '\u0627',
    '𞤀',
    'ᄀ',
    'ᅡ',
    '1',
    ...marks,
  )
  all.push(
    ...fc
      .sample(fc.array(some, { minLength: 1, maxLength: 30 }), { numRuns: 2000, seed: 8 })
      .map((parts) => parts.join('')),
  )
  const ours = all.map((text) => Array.from(wordsOf(text), (word) => word.text))
  await onEach(t, async (t, database) => {
    await migrate(await database.connect(), () => {})
    const rows = await database.query(
      `select string_to_array(btrim(deck.plain(x.text)), ' ') as words from unnest($1::text[]) with ordinality as x (text, n) order by n`,
      [all],
    )
    const differ = rows.findIndex((row, i) => JSON.stringify(row['words']) !== JSON.stringify(ours[i]))
    t.equal(differ, -1, 'the same words')
    if (differ >= 0) {
      const theirs = rows[differ]?.['words'] as string[]
      const at = theirs.findIndex((word, i) => word !== ours[differ]?.[i])
      t.strictSame(
        theirs.slice(at - 2, at + 5),
        ours[differ]?.slice(at - 2, at + 5),
        JSON.stringify(all[differ]).slice(0, 200),
      )
    }
  })
})

void t.test('search words: the tables agree with Unicode', { skip: process.versions.unicode !== '17.0' }, (t) => {
  // Only newer characters, whose NFC differs between versions of Postgres, separate words.
  const differ = (codes: number[]): boolean => {
    const text = codes.map((code) => `x${String.fromCodePoint(code)}x`).join(' . ')
    return Array.from(wordsOf(text), (word) => word.text).join(' ') !== words(text).join(' ')
  }
  const later: number[] = []
  for (let i = 0; i < characters.length; i += 500) {
    const some = characters.slice(i, i + 500)
    if (differ(some)) later.push(...some.filter((code) => differ([code])))
  }
  t.ok(later.length > 100 && later.length < 150, `${later.length} differ`)
  for (const code of later) t.ok(/[\p{L}\p{M}]/u.test(String.fromCodePoint(code)) && code > 0x890, code.toString(16))
  t.end()
})

void t.test('search words: queries are parsed like websearch_to_tsquery', async (t) => {
  const database = await freshDatabase(t, true)
  await start(t, database)
  const main = new pg.Pool({ connectionString: database.url, max: 1 })
  const piece = fc.constantFrom('a ', 'b ', 'or ', 'OR ', ' -', '"', '!', '(', ')', '|', ', ', 'a,b ', 'or')
  const asked = fc
    .sample(fc.array(piece, { minLength: 1, maxLength: 10 }), { numRuns: 1000, seed: 4 })
    .map((some) => some.join(''))
    .filter((q) => !/-\s*[!|()&]/.test(q))
  const some = ['', 'a', 'b', 'or']
  const all = some.flatMap((one) => some.flatMap((two) => some.map((three) => `${one} ${two} ${three}`)))
  let found = 0
  for (const q of asked) {
    const ours = await lookUp(main, q).then(
      ({ rank }) => rank,
      () => null,
    )
    const [row] = await database.query(
      `select array_agg(t.text) filter (where to_tsvector('pg_catalog.simple', t.text) @@ websearch_to_tsquery('pg_catalog.simple', $2)) as theirs,
         array_agg(t.text) filter (where deck.words(t.text) @@ $3::tsquery) as ours from unnest($1::text[]) as t (text)`,
      [all, q, ours ?? ''],
    )
    if (row?.['theirs'] !== null) found++
    if (JSON.stringify(row?.['ours']) !== JSON.stringify(row?.['theirs']))
      t.strictSame(row?.['ours'], row?.['theirs'], `${JSON.stringify(q)}: ${ours}`)
  }
  await main.end()
  t.ok(found > 300, `${found} queries find something`)
})

void t.test('search words: blocks of a different rule version are scanned at once, and rebuilt', async (t) => {
  const database = await freshDatabase(t, true)
  const instance = await start(t, database)
  const { id, chat } = await newChat(instance)
  await save(database, id)
  await fill(database, id, 600, `'n ' || n`)
  await indexed(database, id)
  const block = async (): Promise<unknown> =>
    (await database.query('select words::text, rule from deck.search_blocks where mission_id = $1', [id]))[0]
  const before = await block()
  for (const rule of [0, 1_000_000]) {
    // A block that a different locale or version may have created: it has none of these words.
    await database.query(
      `update deck.search_blocks set rule = $2, words = array_to_tsvector(array[E'\\x01' || mission_id || citizen, 'other']) where mission_id = $1`,
      [id, rule],
    )
    for (const q of ['hello', '権利', 'café']) t.strictSame(await find(instance, chat, q), expected(q), `${q}, at once`)
    const { json } = await instance.request('GET', `/api/missions/${id}/search?q=deploy`, alice)
    t.match(json['hits'], [{ kind: 'message', seq: 1 }], 'the mission search, too')
    await indexed(database, id)
    t.strictSame(await block(), before, 'rebuilt')
  }
})

void t.test('search words: a dump gives the same results in a database of a different locale', async (t) => {
  const run = promisify(execFile)
  const { version } = await run('pg_dump', ['--version']).then(
    ({ stdout }) => ({ version: Number(/ (\d+)/.exec(stdout)?.[1]) }),
    () => ({ version: 0 }),
  )
  const from = await databaseOf(t, libc('C'))
  const to = await databaseOf(t, libc('C.UTF-8'))
  if (typeof from === 'string' || typeof to === 'string')
    return t.pass('skipped: this server does not support both locales')
  const [row] = await from.query(`select current_setting('server_version_num')::int / 10000 as version`)
  if (version < Number(row?.['version']))
    return t.pass(`skipped: pg_dump has version ${version}, older than the server`)
  const one = await start(t, from)
  const { id, chat } = await newChat(one)
  await save(from, id)
  await fill(from, id, 600, `''''`)
  await indexed(from, id)
  // A block of the previous version.
  await from.query(
    `update deck.search_blocks set rule = 0, words = array_to_tsvector(array[E'\\x01' || mission_id || citizen, '“hello”'])`,
  )
  await one.close()
  const { stdout } = await run('pg_dump', ['--no-owner', '--inserts', '--rows-per-insert=100', '--dbname', from.url], {
    maxBuffer: 1e9,
  })
  await (await to.connect()).query(stdout.replace(/^\\.*$/gm, ''))
  const two = await start(t, to)
  for (const q of positive) t.strictSame(await find(two, chat, q), expected(q), q)
})

void t.test('search words: the version of the rule is raised with each change', (t) => {
  const hash = createHash('sha256')
  for (const file of ['unicode.sql', 'words.sql'])
    hash.update(
      readFileSync(new URL(`../../db/functions/${file}`, import.meta.url), 'utf8')
        .replace(/^ *--.*\n/gm, '')
        .replace(/\s+/g, ' '),
    )
  const [, version = ''] =
    /deck\.word_rule\(\)[^;]*return (\d+)/.exec(
      readFileSync(new URL('../../db/functions/words.sql', import.meta.url), 'utf8'),
    ) ?? []
  t.strictSame(
    [version, hash.digest('hex').slice(0, 16)],
    ['1', '0f2d4f82cf7cb2aa'],
    'if the words change, raise deck.word_rule(); then update both values here',
  )
  t.end()
})
