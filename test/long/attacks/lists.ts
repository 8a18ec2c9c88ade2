// Every list of a mission at its largest, six requests at a time.
import { attack, keepOn } from './attack.ts'

attack(
  'the lists of a large mission',
  async ({ database, id }) => {
    await database.query(
      `insert into chat_messages (mission_id, citizen, sender, message, code_blocks)
       select $1, 'c' || n, 'user', repeat('x', 9000), jsonb_build_array(jsonb_build_object('language', null, 'code', repeat('x', 240000)))
       from generate_series(1, 1200) n`,
      [id],
    )
    await database.query(
      `insert into test_runs (mission_id, status, summary, results)
       select $1, 'passed', jsonb_build_object('a', repeat('x', 900000)), '[]' from generate_series(1, 300)`,
      [id],
    )
    await database.query(
      `insert into dod_items (mission_id, text, category) select $1, repeat('x', 9000) || n, 'tests' from generate_series(1, 1000) n`,
      [id],
    )
  },
  (stage) => {
    const paths = [
      'chat?limit=500',
      'tests?limit=500',
      'dod',
      'timeline?limit=500',
      'chat/c1?limit=500',
      'search?q=x&limit=500',
    ]
    return keepOn(stage, 6, async (n) => {
      const path = `/api/missions/${stage.id}/${paths[n % paths.length]}`
      const { status, text } = await stage.server.request('GET', path, stage.alice, undefined, {
        'accept-encoding': 'identity',
      })
      if (text.length > 4.2 * 1024 * 1024) stage.t.fail(`${path}: ${text.length}`)
      return status
    })
  },
)
