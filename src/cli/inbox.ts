// mission-deck inbox: lists the citizens' tasks (open, held, put off, set aside), and retries a task that was set aside.
import type { Command } from 'commander'
import { deny } from '../protocol/errors.ts'
import { databaseHelp, makeIo, plain, Usage, withJson } from './output.ts'

type Options = { json?: boolean; dead?: boolean; retry?: string }
type Task = {
  task: string
  citizen: string
  mission: number
  state: 'open' | 'held' | 'put off' | 'set aside'
  attempt: number
  since: string
  message: string
}

const list = `
  select t.id as task, t.citizen, m.number as mission, t.attempt, deck.iso(t.at) as since,
    case when t.run is null then left(c.message, 200) else 'a test run' end as message,
    case when t.dead or (t.attempt >= 5 and coalesce(t.lease_until, '-infinity') <= now()) then 'set aside'
         when t.lease_until > now() then 'held'
         when t.ready_at > now() then 'put off' else 'open' end as state
  from deck.tasks t
  join missions m on m.id = t.mission_id
  left join chat_messages c on c.id = t.id and t.run is null
  where t.ended is null and (c.id is not null or t.run is not null) and ($1::text is null or t.citizen = $1)
  order by t.citizen, t.at, t.seq`

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

export const inboxCommand = (program: Command): void => {
  withJson(program.command('inbox'))
    .description("list the tasks in citizens' inboxes, and those set aside after five attempts")
    .argument('[citizen]', 'only the tasks of this citizen')
    .option('--dead', 'only tasks that were set aside')
    .option('--retry <task>', 'put a task that was set aside back into its inbox')
    .addHelpText('after', databaseHelp)
    .action(async (citizen: string | undefined, options: Options) => {
      const { retry } = options
      if (retry !== undefined && !uuid.test(retry)) throw new Usage('--retry takes the id of a task')
      const io = makeIo(options)
      const { direct, withClient } = await import('./database.ts')
      await withClient(await direct(true), async (client) => {
        if (retry !== undefined) {
          const { rows } = await client.query<{ state: string | null }>(
            'select deck.retry_question(t.mission_id, t.citizen, t.id) as state from deck.tasks t where t.id = $1',
            [retry],
          )
          if (rows[0]?.state !== 'failed') throw deny('not_found', 'no task with this id was set aside')
          return io.print(`${retry} is back in its inbox`, { task: retry })
        }
        const { rows } = await client.query<Task>(list, [citizen ?? null])
        const tasks = rows.filter(({ state }) => !options.dead || state === 'set aside')
        if (io.json) return io.print('', tasks)
        for (const { task, citizen, mission, state, attempt, since, message } of tasks)
          io.write(
            `${io.paint(state === 'set aside' ? 'red' : 'dim', state.padEnd(9))}  ${task}  #${mission} ${citizen}  ` +
              `attempt ${attempt}  ${since}  ${plain(message).replace(/\s+/g, ' ').slice(0, 60)}\n`,
          )
        if (tasks.length === 0) io.note('no open tasks')
      })
    })
}
