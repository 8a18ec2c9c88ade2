// Search blocks in slices: a block that is built part by part equals one that is built at once, whatever happens to its messages meanwhile.
import t from 'tap'
import { migrate } from '../../src/database/postgres/migrate.ts'
import { freshDatabase, insertMission, type Row } from '../support/database.ts'

const db = await freshDatabase(t)
await migrate(await db.connect(), () => undefined)

/** A chat with messages whose texts, code, languages and times differ; `code`: characters of each code block. */
const newChat = async (messages: number, code = 40): Promise<string> => {
  const mission = await insertMission(db)
  await db.query(
    `insert into chat_messages (mission_id, citizen, sender, message, code_blocks, created_at)
     select $1, 'rafael', case n % 3 when 0 then 'user' else 'citizen' end, 'word' || n || ' and ' || md5(n::text) || E'\n\`\`\`sh\nls\n\`\`\`',
       case n % 4 when 0 then jsonb_build_array(jsonb_build_object('language', 'l' || n % 7, 'code', 'let x' || n || ' = ' || repeat('y', $3))) end,
       timestamp '2026-01-01' + (n * 7919 % 1000) * interval '1 minute'
     from generate_series(1, $2::integer) n`,
    [mission, messages, code],
  )
  return mission
}
const blocks = (mission: string): Promise<Row[]> =>
  db.query(
    `select citizen, first::int, last::int, earliest::text, latest::text, replace(words::text, $1, 'mission') as words, code, rule
     from deck.search_blocks where mission_id::text = $1 order by last`,
    [mission],
  )
const parts = async (mission: string): Promise<number[]> =>
  (
    await db.query('select last::int as last from deck.search_parts where mission_id = $1 order by last', [mission])
  ).map(({ last }) => Number(last))
const slice = async (mission: string, most: number): Promise<boolean | null> =>
  (await db.query(`select deck.search_slice($1, 'rafael', $2) as whole`, [mission, most]))[0]?.['whole'] as
    boolean | null
/** Slices until nothing is left to do. */
const sliceAll = async (mission: string, most: number): Promise<void> => {
  while ((await slice(mission, most)) !== null);
}
const mend = async (): Promise<void> => {
  while ((await db.query('select deck.search_mend(10) as more'))[0]?.['more']);
}

void t.test('search slices: a block of parts equals a block built at once, by count and by bytes', async (t) => {
  for (const [messages, code] of [
    [1730, 40],
    [900, 9000],
  ] as const) {
    const [sliced, whole] = [await newChat(messages, code), await newChat(messages, code)]
    await db.query(`select deck.search_index($1, 'rafael', 100)`, [whole])
    await sliceAll(sliced, 47)
    const found = await blocks(sliced)
    t.ok(found.length >= 3)
    t.strictSame(found, await blocks(whole))
    t.ok(
      (await parts(sliced)).every((last) => last > Number(found.at(-1)?.['last'])),
      'only the next block has parts',
    )
  }
})

void t.test(
  'search slices: a part is forgotten when one of its messages changes or another block holds it',
  async (t) => {
    const mission = await newChat(600)
    t.equal(await slice(mission, 50), false)
    t.equal(await slice(mission, 50), false)
    t.strictSame(await parts(mission), [50, 100])
    await db.query(`update chat_messages set message = 'changed meanwhile' where mission_id = $1 and seq = 20`, [
      mission,
    ])
    await mend()
    t.strictSame(await parts(mission), [])
    await sliceAll(mission, 50)
    t.match((await blocks(mission))[0]?.['words'], `'meanwhile'`)

    // One that changes after the parts were read, and before they were known to be stale, is found again when the block is rebuilt.
    const other = await newChat(600)
    t.equal(await slice(other, 50), false)
    await db.query(`update chat_messages set message = 'changed too late' where mission_id = $1 and seq = 20`, [other])
    await sliceAll(other, 50)
    t.notMatch((await blocks(other))[0]?.['words'], `'late'`)
    await mend()
    t.match((await blocks(other))[0]?.['words'], `'late'`)

    const third = await newChat(1200)
    t.equal(await slice(third, 50), false)
    await db.query(`select deck.search_index($1, 'rafael', 1)`, [third])
    t.strictSame(await parts(third), [], 'the block was completed from its parts')
    t.equal(await slice(third, 50), false)
    // (As another instance adds it that knows nothing of parts.)
    await db.query(
      `insert into deck.search_blocks select mission_id, citizen, last + 1, last + 500, earliest, latest, words, code, rule
     from deck.search_blocks where mission_id = $1`,
      [third],
    )
    t.equal(await slice(third, 50), false)
    t.strictSame(await parts(third), [1050])
  },
)

void t.test(
  'search slices: parts of another version of the word rule, and of a mission that is gone, are forgotten',
  async (t) => {
    const mission = await newChat(600)
    await slice(mission, 50)
    await db.query('update deck.search_parts set rule = rule - 1 where mission_id = $1', [mission])
    await slice(mission, 60)
    t.strictSame(await parts(mission), [60])
    await db.query('delete from missions where id = $1', [mission])
    await mend()
    t.strictSame(await parts(mission), [])
  },
)

void t.test('search slices: a block whose words exceed a tsvector is always scanned', async (t) => {
  const mission = await newChat(600)
  // Half a megabyte and more each.
  await db.query(
    `insert into deck.search_parts (mission_id, citizen, last, rows, bytes, earliest, latest, words, rule)
     select $1, 'rafael', n * 100, 100, 0, '2026-01-01', '2026-01-01',
       array_to_tsvector(array(select md5(n || '.' || i) || md5(i::text) from generate_series(1, 9000) i)), deck.word_rule()
     from generate_series(1, 2) n`,
    [mission],
  )
  t.equal(await slice(mission, 500), true)
  t.match(await blocks(mission), [{ first: 1, last: 500, words: `'\u0001missionrafael' '\u0004'` }])
})
