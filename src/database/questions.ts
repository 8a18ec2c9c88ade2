// Questions: what became of the messages that users sent to a citizen. The states are in db/functions/questions.sql. Reads carry the
// mission's rights of the same snapshot.
import type pg from 'pg'
import { deny } from '../protocol/errors.ts'
import type { MissionRights, Question } from '../protocol/rows.ts'
import type { MissionRef } from '../protocol/topics.ts'
import { missionColumns, toRights, type MissionColumns } from './postgres/columns.ts'
import { quoted, type Allow, type Transactions } from './postgres/transaction.ts'
import { readMission, selectMission } from './read/read-mission.ts'

type QuestionColumns = Omit<Question, 'answer'> & { answer: string | null; answer_seq: number | null }
/** A question as its chat's followers receive it, and who may receive it. */
export type Changed = { topic: string; rights: MissionRights; listening: boolean; question: Question }

const time = (column: string): string => `deck.iso(${column} at time zone 'utc') as ${column.split('.')[1]}`
/** SQL of QuestionColumns, from a row `q` of deck.questions() or deck.questions_of(). */
const columns = `q.id, q.seq, q.state, q.attempt, ${time('q.since')}, ${time('q.until')}, q.answer, q.answer_seq`

const toQuestion = ({ id, seq, state, attempt, since, until, answer, answer_seq }: QuestionColumns): Question => ({
  id,
  seq,
  state,
  attempt,
  since,
  until,
  answer: answer === null || answer_seq === null ? null : { id: answer, seq: answer_seq },
})

/**
 * $1, $2 the mission
 * $3 citizen
 * $4 state; null: all
 * $5 only questions with a smaller seq
 * $6 maximum number of questions
 */
const page = selectMission({
  once: 'deck.listening($3) as listening',
  columns,
  joins: 'left join lateral deck.questions(m.id, $3, $4, $5, $6) q on true order by q.seq',
})

/** SQL that adds topic, rights and `listening` to questions. Whether a citizen is listening is read once. */
const withRights = (questions: string): string => `
  with asked as materialized (${questions}),
    citizens as materialized (select c.citizen, deck.listening(c.citizen) as listening from (select distinct citizen from asked) c)
  select 'missions/' || m.id || '/chat/' || q.citizen as topic, ${missionColumns}, c.listening, ${columns}
  from asked q join citizens c on c.citizen = q.citizen join missions m on m.id = q.mission_id
  order by q.seq`
/** $1 messages */
const changed = withRights('select q.* from deck.questions_of($1) q')
/** $1, $2 chats: missions and citizens. $3 questions of each */
const newest = withRights(`
  select t.mission as mission_id, t.citizen, q.*
  from unnest($1::uuid[], $2::text[]) as t (mission, citizen)
  cross join lateral deck.questions(t.mission, t.citizen, null, ${Number.MAX_SAFE_INTEGER}, $3) q`)

type ChangedColumns = QuestionColumns & MissionColumns & { topic: string; listening: boolean }
const toChanged = (rows: ChangedColumns[]): Changed[] =>
  rows.flatMap((row) => {
    const rights = toRights(row)
    return rights ? [{ topic: row.topic, rights, listening: row.listening, question: toQuestion(row) }] : []
  })

export const makeQuestions = (main: pg.Pool, { transaction, enter, settle }: Transactions) => {
  /** Changes a question with a function that returns the state that the question had, and returns the question. */
  const change = <Had extends { state: string | null }>(
    ref: MissionRef,
    allow: Allow,
    { citizen, id, text, from }: { citizen: string; id: string; text: string; from: readonly string[] },
  ) =>
    transaction(async (client) => {
      const mission = await enter(client, ref, allow)
      const { rows } = await client.query<Had>(text, [mission, citizen, id])
      const [had] = rows
      if (!had?.state) throw deny('not_found', 'no such question in this chat')
      if (!from.includes(had.state)) throw deny('conflict', `the question is ${had.state}, not ${from.join(' or ')}`)
      const json = await settle(
        client,
        `select row_to_json(x)::text as json from (select ${columns} from deck.questions_of(array[${quoted(id)}::uuid]) q) x`,
      )
      return { mission, had, question: toQuestion(JSON.parse(json) as QuestionColumns) }
    })

  return {
    /** Returns a page of a chat's questions in ascending order: the newest below `before`. */
    async page(
      ref: MissionRef,
      citizen: string,
      { state, before, limit }: { state?: Question['state'] | undefined; before?: number | undefined; limit: number },
    ) {
      const { mission, rows } = await readMission<{ listening: boolean } & (QuestionColumns | { id: null })>(main, {
        ref,
        name: 'questions',
        text: page,
        values: [citizen, state ?? null, before ?? Number.MAX_SAFE_INTEGER, limit + 1],
      })
      const found = rows.flatMap((row) => (row.id === null ? [] : [toQuestion(row)]))
      return {
        mission,
        questions: found.slice(-limit),
        listening: rows[0]?.listening ?? false,
        has_more: found.length > limit,
      }
    },

    /** Returns those of these messages that are questions. */
    async changed(ids: string[]): Promise<Changed[]> {
      const { rows } = await main.query<ChangedColumns>({ name: 'questions-changed', text: changed, values: [ids] })
      return toChanged(rows)
    },

    /** Returns each chat's newest questions. */
    async newest(chats: { mission: string; citizen: string }[], most: number): Promise<Changed[]> {
      const { rows } = await main.query<ChangedColumns>({
        name: 'questions-newest',
        text: newest,
        values: [chats.map(({ mission }) => mission), chats.map(({ citizen }) => citizen), most],
      })
      return toChanged(rows)
    },

    /** Lets a failed question wait again, from attempt 0. */
    async retry(ref: MissionRef, allow: Allow, citizen: string, id: string): Promise<Question> {
      const text = 'select deck.retry_question($1, $2, $3) as state'
      return (await change(ref, allow, { citizen, id, text, from: ['failed'] })).question
    },

    /** Closes a waiting question. A working one keeps its state: `holder` has to be asked to stop. */
    async cancel(ref: MissionRef, allow: Allow, citizen: string, id: string) {
      const { mission, had, question } = await change<{ state: string | null; holder: string | null }>(ref, allow, {
        citizen,
        id,
        text: 'select * from deck.cancel_question($1, $2, $3)',
        from: ['waiting', 'working'],
      })
      return { mission, question, holder: had.state === 'working' ? had.holder : null }
    },
  }
}
export type Questions = ReturnType<typeof makeQuestions>
