// A citizen's stored tasks: they are found in its chats, leased to holders, and ended or released. A holder is a socket's session, or a
// claim over HTTP (database/inbox-claims). Only the holder of a task can end it. A reply ends its task in the writer's transaction
// (database/write/append-batch).
import type pg from 'pg'
import type { TaskKind } from '../protocol/client-frames.ts'
import type { GivenTask } from '../protocol/inbox.ts'
import type { Request } from '../protocol/requests.ts'
import type { TestRun } from '../protocol/rows.ts'
import { uuidPattern } from '../protocol/topics.ts'
import { nullableUuids, uuids } from './postgres/binary-arrays.ts'
import { makeBatched } from './postgres/batcher.ts'
import { toMessage, type MessageColumns } from './postgres/columns.ts'

/** A leased task, and the ID of its mission. */
export type Task = { holder: string; mission: string; given: GivenTask }
/** The missions that a holder may see, as ids and numbers; undefined: all. */
export type Seen = ReadonlySet<string> | undefined
/** `lease`: seconds; undefined: the instance's, which it renews. `once`: see deck.claim_tasks(). */
export type Terms = {
  seen: Seen
  lease?: number | undefined
  once?: boolean | undefined
  kinds: readonly TaskKind[]
}
/** What became of a socket's task: see deck.renew_tasks(). */
export type TaskState = 'held' | 'parked' | 'returned'
/** A task's holder. `attempt`: of a claim over HTTP, which must still be the task's. */
export type Held = { task: string; holder: string; attempt?: number }

/** Messages of a chat that one statement scans for tasks. */
const scanned = 500

type TaskColumns = MessageColumns & {
  holder: string
  task: string
  attempt: number
  lease_until: string
  mission_id: string
  run: string | null
  request: string | null
}

const toTask = (citizen: string, { holder, task, attempt, lease_until, run, request, ...row }: TaskColumns): Task => {
  const mission = row.mission_id
  const asked = request === null ? {} : { request: JSON.parse(request) as Request }
  const given: GivenTask =
    run === null
      ? {
          task,
          kind: 'message',
          attempt,
          lease_until,
          topic: `missions/${mission}/chat/${citizen}`,
          message: toMessage(row, mission, citizen),
          ...asked,
        }
      : {
          task,
          kind: 'run',
          attempt,
          lease_until,
          topic: `missions/${mission}/tests`,
          run: JSON.parse(run) as TestRun,
          ...asked,
        }
  return { holder, mission, given }
}
/** The columns of deck.given_task. */
const taskColumns = `
  holder, task, attempt, deck.iso(lease_until at time zone 'utc') as lease_until, mission_id,
  id, sender, author, message, code_blocks, created_at, seq, key, in_reply_to, run, request, details`

const isNumber = /^[1-9][0-9]{0,8}$/
const isId = new RegExp(uuidPattern)
/** The parameters for the missions that may be seen: their ids, and their numbers. Other names in a token are ignored. */
export const seenValues = (seen: Seen): [ids: string[] | null, numbers: string[] | null] =>
  seen ? [[...seen].filter((name) => isId.test(name)), [...seen].filter((name) => isNumber.test(name))] : [null, null]

/** `patience`: ms until a call to end or release a task rejects with `unavailable`; `lease`: seconds until a lease that is not renewed ends. */
export const makeTasks = (writes: pg.Pool, patience: number, lease: number) => {
  /** Batches updates of tasks. A task is updated only if the caller is its last holder; the calls return whether it was. */
  const fenced = (name: string, set: string, while_: string) =>
    makeBatched(
      async (asked: (Held & { after?: number; reply?: string })[]): Promise<boolean[]> => {
        const { rows } = await writes.query<{ id: string }>({
          name,
          text: `
            update deck.tasks t set ${set}
            from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::float8[], $5::uuid[]) as a (id, holder, attempt, after, reply)
            where t.id = a.id and t.holder = a.holder and t.attempt = coalesce(a.attempt, t.attempt) and not t.dead and (${while_})
            returning t.id`,
          values: [
            uuids(asked.map(({ task }) => task)),
            uuids(asked.map(({ holder }) => holder)),
            asked.map(({ attempt }) => attempt ?? null),
            asked.map(({ after }) => after ?? 0),
            nullableUuids(asked.map(({ reply }) => reply)),
          ],
        })
        const changed = new Set(rows.map(({ id }) => id))
        return asked.map(({ task }) => changed.has(task))
      },
      { max: 200, patience },
    )

  return {
    /** Records that something asks for tasks of these kinds. Work on messages opens the citizen's inbox if it has none. */
    async open(citizen: string, kinds: readonly TaskKind[]): Promise<void> {
      await writes.query({ name: 'inbox-open', text: 'select deck.open_work($1, $2)', values: [citizen, kinds] })
    },

    /** Records that something works for these citizens. `runners`: those of them whose workers take runs. */
    async note(citizens: string[], runners: string[]): Promise<void> {
      await writes.query({
        name: 'inbox-note',
        text: 'select deck.note_listening($1), deck.note_runners($2)',
        values: [citizens, runners],
      })
    },

    /** Returns whether the holder has this task, and the task is a run that has not ended. Only the run's end ends it. */
    async holdsRun(task: string, holder: string): Promise<boolean> {
      const { rowCount } = await writes.query({
        name: 'tasks-run',
        text: `select from deck.tasks where id = $1 and holder = $2 and run is not null and ended is null and lease_until is not null`,
        values: [task, holder],
      })
      return rowCount === 1
    },

    /** Finds new tasks in the citizen's chats of these missions, or of all (undefined). Returns true if more may follow. */
    async find(citizen: string, missions: string[] | undefined): Promise<boolean> {
      const { rows } = await writes.query<{ more: boolean }>({
        name: 'tasks-find',
        text: 'select deck.find_tasks($1, $2::uuid[], $3) as more',
        values: [citizen, missions ?? null, scanned],
      })
      return rows[0]?.more === true
    },

    /** Leases the oldest free tasks of missions that the holders may see, one per holder. */
    async claim(citizen: string, holders: string[], { seen, lease: seconds, once, kinds }: Terms): Promise<Task[]> {
      const { rows } = await writes.query<TaskColumns>({
        name: 'tasks-claim',
        text: `select ${taskColumns} from deck.claim_tasks($1, $2::uuid[], $3::uuid[], $4::integer[], $5, $6, $7)`,
        values: [citizen, uuids(holders), ...seenValues(seen), seconds ?? lease, once ?? null, kinds],
      })
      return rows.map((row) => toTask(citizen, row))
    },

    /** Ends a task without a reply. Returns false if the caller does not hold it, or if it is a run that has not ended. Idempotent. */
    end: fenced(
      'tasks-end',
      `ended = coalesce(t.ended, clock_timestamp()), lease_until = null,
       since = case when t.ended is null then clock_timestamp() else t.since end`,
      't.lease_until is not null and t.run is null or t.ended is not null',
    ),

    /** Ends a task with `reply`, a message that is stored already. Returns false if the caller does not hold it. Idempotent. */
    answer: fenced(
      'tasks-answer',
      `ended = coalesce(t.ended, clock_timestamp()), lease_until = null, answered = true,
       since = case when t.ended is null then clock_timestamp() else t.since end,
       answer = coalesce(t.answer, (
         select c.id from chat_messages c where c.id = a.reply and c.in_reply_to = t.id and c.sender = 'citizen'))`,
      't.run is null and (t.lease_until is not null or t.ended is not null and t.answered)',
    ),

    /** Puts a task back into the queue, to be leased after `after` seconds. Returns false if the caller does not hold it. */
    release: fenced(
      'tasks-release',
      `lease_until = null, ready_at = clock_timestamp() + make_interval(secs => a.after),
       since = case when t.lease_until is null then t.since else clock_timestamp() end`,
      't.ended is null',
    ),

    /** Releases tasks that were leased but not delivered, unless their leases were renewed. The attempt does not count. */
    async undo(tasks: Task[]): Promise<void> {
      await writes.query({
        name: 'tasks-undo',
        text: `
          update deck.tasks t set lease_until = null, attempt = t.attempt - 1, since = coalesce(
            case t.attempt when 1 then (select c.created_at at time zone 'utc' from chat_messages c where c.id = t.id) end, t.since)
          from unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) as a (id, holder, lease_until)
          where t.id = a.id and t.holder = a.holder and t.lease_until = a.lease_until and t.ended is null`,
        values: [
          uuids(tasks.map(({ given }) => given.task)),
          uuids(tasks.map(({ holder }) => holder)),
          tasks.map(({ given }) => given.lease_until),
        ],
      })
    },

    /** Renews the leases of sockets. Returns the states of the tasks that their holders still hold. */
    async renew(held: { task: string; holder: string; active: boolean }[]): Promise<Map<string, TaskState>> {
      const { rows } = await writes.query<{ id: string; state: TaskState }>({
        name: 'tasks-renew',
        text: 'select id, state from deck.renew_tasks($1::uuid[], $2::uuid[], $3::boolean[], $4)',
        values: [
          uuids(held.map(({ task }) => task)),
          uuids(held.map(({ holder }) => holder)),
          held.map(({ active }) => active),
          lease,
        ],
      })
      return new Map(rows.map(({ id, state }) => [id, state]))
    },

    /** Returns a citizen's tasks whose request has ended to their holders. */
    async returned(citizen: string, held: { task: string; holder: string }[]): Promise<Task[]> {
      const { rows } = await writes.query<TaskColumns>({
        name: 'tasks-returned',
        text: `select ${taskColumns} from deck.returned_tasks($1::uuid[], $2::uuid[])`,
        values: [uuids(held.map(({ task }) => task)), uuids(held.map(({ holder }) => holder))],
      })
      return rows.map((row) => toTask(citizen, row))
    },

    /** Transfers the tasks of a former session of the citizen to this session. Returns them. */
    async resume(citizen: string, former: string, session: string): Promise<string[]> {
      const { rows } = await writes.query<{ id: string }>({
        name: 'tasks-resume',
        text: `
          update deck.tasks
          set holder = $3, lease = null, parked_until = case when lease_until = 'infinity' then x.until end,
            lease_until = case when lease_until = 'infinity' then lease_until else x.until end
          from (select clock_timestamp() + make_interval(secs => $4) as until) x
          where holder = $2 and citizen = $1 and lease_until is not null returning id`,
        values: [citizen, former, session, lease],
      })
      return rows.map(({ id }) => id)
    },

    /** Deletes tasks whose message is gone, among the next after a task (undefined: from the start). Returns where to continue, if there are more. */
    async tidy(after?: string): Promise<string | undefined> {
      const { rows } = await writes.query<{ next: string | null }>({
        name: 'tasks-tidy',
        text: 'select deck.tidy_inboxes($1) as next',
        values: [after ?? null],
      })
      return rows[0]?.next ?? undefined
    },
  }
}
export type Tasks = ReturnType<typeof makeTasks>
