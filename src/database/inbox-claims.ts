// What a claim over HTTP reads and changes besides database/inbox: its check and renewal, a reply that is stored already, and the list of
// a citizen's unfinished questions. The statements are in db/functions/inbox.sql.
import type pg from 'pg'
import type { MissionRights, Question } from '../protocol/rows.ts'
import { messageColumns, toMessage, type MessageColumns } from './postgres/columns.ts'
import { seenValues, type Seen, type Tasks } from './inbox.ts'

/** A claim, and the citizen, the caller and the rights that it is used with. */
export type ClaimUse = {
  citizen: string
  task: string
  seen: Seen
  holder: string
  attempt: number
  /** the caller */
  author: string
}
/** A claim's task. `state`: see deck.check_claim(). `draft`: the stored draft of its reply. */
export type ClaimState = {
  state: 'held' | 'ended' | 'released' | 'lost'
  /** whether the task is of kind run */
  run: boolean
  mission: MissionRights
  lease_until: string | null
  cancelled: boolean
  answered: boolean
  answer: string | null
  draft: { generation: number; units: number } | undefined
}
type StateColumns = Omit<ClaimState, 'mission' | 'draft'> & {
  mission: string
  number: number
  assigned_to: string
  generation: number | null
  units: number
}

/** The place after which a page of the list begins. */
export type ListCursor = { at: string; mission: string; seq: number }
export type ListedQuestion = Question & { topic: string }
type ListColumns = Omit<Question, 'answer'> & {
  mission_id: string
  at: string
  answer: string | null
  answer_seq: number | null
}

/** Each state is counted up to this. */
export const mostCounted = 1000
/** Rounds of deck.find_tasks() before a list is read. */
const mostRounds = 100
const first: ListCursor = { at: '-infinity', mission: '00000000-0000-0000-0000-000000000000', seq: 0 }

export const makeClaimStore = (main: pg.Pool, writes: pg.Pool, tasks: Pick<Tasks, 'find'>) => ({
  /**
   * Checks a claim, and renews its lease if it was renewed more than `within` seconds ago (null: never); `lease` sets its seconds.
   * Returns undefined if the citizen has no such task in the missions that may be seen.
   */
  async check(
    { citizen, task, seen, holder, attempt, author }: ClaimUse,
    { lease, within }: { lease?: number | undefined; within: number | null },
  ): Promise<ClaimState | undefined> {
    const { rows } = await writes.query<StateColumns>({
      name: 'claim-check',
      text: `
        select state, mission, number, assigned_to, deck.iso(lease_until at time zone 'utc') as lease_until, cancelled, answered, answer,
          generation, units, exists (select from deck.tasks t where t.id = $2 and t.run is not null) as run
        from deck.check_claim($1, $2, $3::uuid[], $4::integer[], $5, $6, $7, $8, $9)`,
      values: [citizen, task, ...seenValues(seen), holder, attempt, author, lease ?? null, within],
    })
    const [row] = rows
    if (!row) return undefined
    const { mission, number, assigned_to, generation, units, ...rest } = row
    return {
      ...rest,
      mission: { id: mission, number, assigned_to },
      draft: generation === null ? undefined : { generation, units },
    }
  },

  /** Notes that the holder of a task was asked to stop. */
  async cancel(task: string, holder: string): Promise<void> {
    await writes.query({
      name: 'claim-cancel',
      text: 'update deck.tasks set cancelled = true where id = $1 and holder = $2 and ended is null and not cancelled',
      values: [task, holder],
    })
  },

  /** Returns a message of a citizen's chat; undefined if it does not exist. */
  async message(id: string, mission: string, citizen: string) {
    const { rows } = await main.query<MessageColumns>({
      name: 'claim-message',
      text: `select ${messageColumns} from chat_messages where id = $1 and mission_id = $2 and citizen = $3 and seq is not null`,
      values: [id, mission, citizen],
    })
    return rows[0] && toMessage(rows[0], mission, citizen)
  },

  /** Returns a page of a citizen's unfinished questions, oldest first, the counts of all, and whether something works for the citizen. */
  async list(citizen: string, seen: Seen, { limit, after = first }: { limit: number; after?: ListCursor | undefined }) {
    const inbox = await writes.query({
      name: 'inbox-exists',
      text: 'select from deck.inboxes where citizen = $1',
      values: [citizen],
    })
    if (inbox.rows.length > 0) for (let n = 0; n < mostRounds && (await tasks.find(citizen, undefined)); n++);
    const [missions, numbers] = seenValues(seen)
    const { rows: counts } = await writes.query<{
      listening: boolean
      waiting: number
      working: number
      failed: number
    }>({
      name: 'inbox-counts',
      text: `select deck.listening($1) as listening, c.* from deck.count_unfinished($1, $2::uuid[], $3::integer[], $4) c`,
      values: [citizen, missions, numbers, mostCounted],
    })
    const { rows } = await writes.query<ListColumns>({
      name: 'inbox-list',
      text: `
        select id, mission_id, seq, to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS.US') as at, state, attempt,
          deck.iso(since at time zone 'utc') as since, deck.iso(until at time zone 'utc') as until, answer, answer_seq
        from deck.unfinished($1, $2::uuid[], $3::integer[], $4, $5, $6, $7)`,
      values: [citizen, missions, numbers, after.at, after.mission, after.seq, limit + 1],
    })
    const page = rows.slice(0, limit)
    const last = rows.length > limit ? page.at(-1) : undefined
    const { listening = false, waiting = 0, working = 0, failed = 0 } = counts[0] ?? {}
    return {
      listening,
      waiting,
      working,
      failed,
      tasks: page.map(({ id, mission_id, seq, state, attempt, since, until, answer, answer_seq }): ListedQuestion => ({
        id,
        seq,
        state,
        attempt,
        since,
        until,
        answer: answer === null || answer_seq === null ? null : { id: answer, seq: answer_seq },
        topic: `missions/${mission_id}/chat/${citizen}`,
      })),
      next: last && { at: last.at, mission: last.mission_id, seq: last.seq },
    }
  },
})
export type ClaimStore = ReturnType<typeof makeClaimStore>
