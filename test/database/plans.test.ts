// Statements and functions read a large chat through its index, whatever statistics the planner has: auto_explain reports their plans.
// A plan that scans a whole mission for each of its chats is a fault.
import type pg from 'pg'
import t from 'tap'
import { openDatabase } from '../../src/database/postgres/pools.ts'
import { makeTransactions } from '../../src/database/postgres/transaction.ts'
import { makeQuestions } from '../../src/database/questions.ts'
import { questionStates } from '../../src/protocol/rows.ts'
import { makeFind } from '../../src/database/search/mission-search.ts'
import { makeHistory } from '../../src/database/read/chat-history.ts'
import { missionPageWithChats } from '../../src/database/read/mission-list.sql.ts'
import { makeTurns } from '../../src/database/postgres/mutex.ts'
import { startDeck, type Json } from '../support/server.ts'
import { fill, newChat } from '../support/stream-readers.ts'

const { database, instance } = await startDeck(t)

type Node = Json & { Plans?: Node[] }
const nodesOf = (node: Node): Node[] => [node, ...(node.Plans ?? []).flatMap(nodesOf)]

void t.test(
  'plans: every read of a chat uses the index on mission, citizen and seq, also when it was planned on an empty table',
  async (t) => {
    const { id } = await newChat(instance)
    const { main, close } = openDatabase({ url: database.adminUrl, directUrl: database.adminUrl, poolMax: 4 }, () => {})
    t.teardown(close)
    const client = await main.connect()
    const plans: Node[] = []
    client.on('notice', ({ message = '' }) => {
      const json = /plan:\n(\{[^]*)/.exec(message)?.[1]
      if (json) plans.push((JSON.parse(json) as { Plan: Node }).Plan)
    })
    try {
      await client.query(`load 'auto_explain'`)
    } catch (error) {
      client.release()
      t.pass(`skipped: auto_explain can not be loaded on this server: ${(error as Error).message}`)
      return
    }
    await client.query(`set auto_explain.log_min_duration = 0; set auto_explain.log_format = json; set auto_explain.log_analyze = on;
    set auto_explain.log_nested_statements = on; set client_min_messages = log`)
    // One connection, so that all plans arrive as its notices.
    const one = { query: (asked: pg.QueryConfig) => client.query(asked) } as unknown as pg.Pool
    const find = makeFind(one, makeTurns(), 10_000)
    const questions = makeQuestions(one, makeTransactions(main))
    const how = { sub: 'alice', allow: () => {}, gone: () => false }
    const asks = Object.entries({
      'the list of chats': () => makeHistory(one).channels({ id }, 'alice', { limit: 500 }),
      'the list of missions with their chats': () =>
        client.query({
          name: 'missions-chats',
          text: missionPageWithChats,
          values: [null, null, 0, true, null, [], 50, 'alice'],
        }),
      'a search': () => find({ id }, { q: 'n', limit: 5 }, how),
      'a search by rank': () => find({ id }, { q: 'n', order: 'rank', limit: 5 }, how),
      'the chats that are due': () => client.query('select * from deck.search_due()'),
      'where pruning ends': () =>
        client.query(
          `select deck.seq_at('missions/' || $1::uuid || '/chat/rafael', $1, 'rafael', '2000-01-01', false)`,
          [id],
        ),
      'a new block': () => client.query(`select deck.search_index($1, 'rafael', 4)`, [id]),
      'a page of questions': () => questions.page({ id }, 'rafael', { limit: 50 }),
      ...Object.fromEntries(
        questionStates.map((state) => [
          `a page of ${state} questions`,
          () => questions.page({ id }, 'rafael', { state, limit: 50 }),
        ]),
      ),
      'questions by id': async () =>
        questions.changed(
          (await database.query('select id from chat_messages where mission_id = $1 limit 10', [id])).map((row) =>
            String(row['id']),
          ),
        ),
      'the newest questions': () => questions.newest([{ mission: id, citizen: 'rafael' }], 20),
      'a page of history': () => makeHistory(one).page({ id }, 'rafael', { limit: 50 }),
    })
    for (const [, ask] of asks) await ask()
    await fill(database, id, 2000)
    await database.query(
      `insert into chat_messages (mission_id, citizen, sender, message) values ($1, 'emma', 'user', 'n')`,
      [id],
    )
    // Half of the messages are tasks.
    await database.query(
      `insert into deck.tasks (id, citizen, mission_id, seq, at)
       select id, citizen, mission_id, seq, at from chat_messages where mission_id = $1 and seq % 2 = 0`,
      [id],
    )
    for (const [what, ask] of asks) {
      plans.length = 0
      await ask()
      const nodes = plans.flatMap(nodesOf)
      const scans = nodes.filter((node) => node['Relation Name'] === 'chat_messages')
      t.ok(scans.length > 0, what)
      for (const node of nodes.filter((node) => node['Relation Name'] === 'reads'))
        t.match(node['Index Cond'], /mission_id.*citizen|citizen.*mission_id/, `${what}: marks`)
      for (const node of scans)
        t.match(node['Index Cond'], /mission_id.*citizen|^\(id = /, `${what}: ${String(node['Node Type'])}`)
      for (const node of nodes.filter((node) => node['Relation Name'] === 'tasks'))
        t.match(
          node['Index Cond'],
          // (The list of missions counts the unfinished tasks of all chats of a mission at once.)
          node['Index Name'] === 'tasks_unfinished'
            ? /mission_id/
            : /mission_id.*citizen|^\(id = |citizen.*lease_until/,
          `${what}: ${String(node['Node Type'])} of tasks`,
        )
    }
    client.release()
  },
)
