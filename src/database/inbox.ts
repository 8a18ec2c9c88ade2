// A citizen's stored tasks: they are found in its chats, leased to sessions, and ended or released. Only the session that holds a task can
// end it. A reply ends its task in the writer's transaction (database/write/append-batch).
import type pg from 'pg'
import type { Message } from '../protocol/rows.ts'
import { uuids } from './postgres/binary-arrays.ts'
import { makeBatched } from './postgres/batcher.ts'
import { toMessage, type MessageColumns } from './postgres/columns.ts'

/** A task as its holder receives it; `lease_until` is RFC 3339. */
export type Task = { task: string; holder: string; attempt: number; lease_until: string; message: Message }
/** The missions that a session may see, as ids and numbers; undefined: all. */
export type Seen = ReadonlySet<string> | undefined

/** Messages of a chat that one statement scans for tasks. */
const scanned = 500

type TaskColumns = MessageColumns & {
  holder: string
  task: string
  attempt: number
  lease_until: string
  mission_id: string
}

const isNumber = (name: string): boolean => /^[1-9][0-9]{0,8}$/.test(name)
const isId = (name: string): boolean => name.length === 36

/** `patience`: ms until a call to end or release a task rejects with `unavailable`; `lease`: seconds until a lease that is not renewed ends. */
export const makeTasks = (writes: pg.Pool, patience: number, lease: number) => {
  /** Batches updates of tasks. A task is updated only if the session is its last holder; the calls return whether it was. */
  const fenced = (name: string, set: string, while_: string) =>
    makeBatched(
      async (asked: { task: string; holder: string; after?: number }[]): Promise<boolean[]> => {
        const { rows } = await writes.query<{ id: string }>({
          name,
          text: `
            update deck.tasks t set ${set}
            from unnest($1::uuid[], $2::uuid[], $3::float8[]) as a (id, holder, after)
            where t.id = a.id and t.holder = a.holder and not t.dead and (${while_}) returning t.id`,
          values: [
            uuids(asked.map(({ task }) => task)),
            uuids(asked.map(({ holder }) => holder)),
            asked.map((a) => a.after ?? 0),
          ],
        })
        const changed = new Set(rows.map(({ id }) => id))
        return asked.map(({ task }) => changed.has(task))
      },
      { max: 200, patience },
    )

  return {
    /** Opens the citizen's inbox if it has none. User messages that are written from now on become tasks. */
    async open(citizen: string): Promise<void> {
      await writes.query({ name: 'inbox-open', text: 'select deck.open_inbox($1)', values: [citizen] })
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
    async claim(citizen: string, holders: string[], seen: Seen): Promise<Task[]> {
      const { rows } = await writes.query<TaskColumns>({
        name: 'tasks-claim',
        text: `
          select holder, task, attempt, to_char(lease_until, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as lease_until, mission_id,
            id, sender, author, message, code_blocks, created_at, seq, key, in_reply_to
          from deck.claim_tasks($1, $2::uuid[], $3::uuid[], $4::integer[], $5)`,
        values: [
          citizen,
          uuids(holders),
          seen ? [...seen].filter(isId) : null,
          seen ? [...seen].filter(isNumber) : null,
          lease,
        ],
      })
      return rows.map(({ task, holder, attempt, lease_until, ...row }) => ({
        task,
        holder,
        attempt,
        lease_until,
        message: toMessage(row, row.mission_id, citizen),
      }))
    },

    /** Ends a task without a reply. Returns false if the session does not hold it. Idempotent. */
    end: fenced(
      'tasks-end',
      'ended = coalesce(t.ended, clock_timestamp()), lease_until = null',
      't.lease_until is not null or t.ended is not null',
    ),

    /** Puts a task back into the queue, to be leased after `after` seconds. Returns false if the session does not hold it. */
    release: fenced(
      'tasks-release',
      'lease_until = null, ready_at = clock_timestamp() + make_interval(secs => a.after)',
      't.ended is null',
    ),

    /** Releases tasks that were leased but not delivered. The attempt does not count. */
    async undo(tasks: Task[]): Promise<void> {
      await writes.query({
        name: 'tasks-undo',
        text: `
          update deck.tasks t set lease_until = null, attempt = t.attempt - 1
          from unnest($1::uuid[], $2::uuid[]) as a (id, holder)
          where t.id = a.id and t.holder = a.holder and t.lease_until is not null`,
        values: [uuids(tasks.map(({ task }) => task)), uuids(tasks.map(({ holder }) => holder))],
      })
    },

    /** Renews leases. Returns the tasks that their holders still hold. */
    async renew(held: { task: string; holder: string }[]): Promise<Set<string>> {
      const { rows } = await writes.query<{ id: string }>({
        name: 'tasks-renew',
        text: `
          update deck.tasks t set lease_until = clock_timestamp() + make_interval(secs => $3)
          from unnest($1::uuid[], $2::uuid[]) as a (id, holder)
          where t.id = a.id and t.holder = a.holder and t.lease_until is not null returning t.id`,
        values: [uuids(held.map(({ task }) => task)), uuids(held.map(({ holder }) => holder)), lease],
      })
      return new Set(rows.map(({ id }) => id))
    },

    /** Transfers the tasks of a former session of the citizen to this session. Returns them. */
    async resume(citizen: string, former: string, session: string): Promise<string[]> {
      const { rows } = await writes.query<{ id: string }>({
        name: 'tasks-resume',
        text: `
          update deck.tasks set holder = $3, lease_until = clock_timestamp() + make_interval(secs => $4)
          where holder = $2 and citizen = $1 and lease_until is not null returning id`,
        values: [citizen, former, session, lease],
      })
      return rows.map(({ id }) => id)
    },

    async tidy(): Promise<void> {
      await writes.query('select deck.tidy_inboxes()')
    },
  }
}
export type Tasks = ReturnType<typeof makeTasks>
