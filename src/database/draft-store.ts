// Stored drafts: claims, checkpoints, and reads for subscribers that join late. The table is unlogged. The generation fences writers: only
// the session that claimed a draft last can save it.
import pg from 'pg'
import type { Step } from '../protocol/activity.ts'
import type { Message } from '../protocol/rows.ts'
import { topicParts } from '../protocol/topics.ts'
import { makeBatched } from './postgres/batcher.ts'
import { messageColumns, toMessage, type MessageColumns } from './postgres/columns.ts'

export type DraftName = { topic: string; key: string }
/** `activity`: its steps. `changes`: how often a step was reported; of two copies the one with more is newer. */
type Content = { generation: number; text: string; activity?: readonly Step[]; changes?: number }
export type StoredDraft = DraftName & Content
/** The claimed draft, the message that has the key already, or the length of the stored draft (0: no draft). */
export type Claim = Content | { message: Message } | { expected: number }
type Columns = { generation: number; text: string; activity: string | null; changes: number }

const stepsOf = (activity: string | null): Step[] => (activity === null ? [] : (JSON.parse(activity) as Step[]))
const toContent = ({ generation, text, activity, changes }: Columns): Content => ({
  generation,
  text,
  activity: stepsOf(activity),
  changes,
})

/** The statement that saves drafts; $7 and $8, their steps and `changes`, are null for a draft whose steps have not changed. */
const saveOf = (withSteps: boolean): string => `
  update deck.drafts d
  set text = case when t.units >= d.units then t.text else d.text end, units = greatest(t.units, d.units),
    ${withSteps ? 'activity = case when t.changes > d.changes then t.activity else d.activity end, changes = greatest(t.changes, d.changes),' : ''}
    aborted = false, touched = clock_timestamp()
  from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::integer[]${withSteps ? ', $7::text[], $8::integer[]' : ''})
    with ordinality as t (mission, citizen, key, generation, text, units, ${withSteps ? 'activity, changes, ' : ''}n)
  where d.mission_id = t.mission and d.citizen = t.citizen and d.key = t.key and d.generation = t.generation
  returning t.n`

const columns = (drafts: readonly DraftName[]) => {
  const parts = drafts.map(({ topic }) => topicParts(topic))
  return [parts.map((p) => p.mission), parts.map((p) => p.citizen), drafts.map(({ key }) => key)]
}

/** Bytes of a chat's drafts that one read returns. */
const loadBytes = 1024 * 1024

/** `prefix` begins the notifications of this instance's claims (live/ephemeral/draft-claims). */
export const makeDraftStore = (main: pg.Pool, patience: number, prefix: string) => {
  // Whether the draft's message is stored. A server that crashes between a reply's commit and the draft's deletion leaves the draft behind.
  const stored = `exists (
    select from chat_messages s
    where deck.key_name(s.mission_id, s.citizen, s.author, s.key) = deck.key_name(d.mission_id, d.citizen, d.author, d.key)
      and s.key is not null and s.seq is not null)`
  // Sends a notification when the claim commits, so that any instance refuses the previous owner's next delta. The notification may be
  // false or lost: an instance that receives it reads the generation.
  const claimedColumns = (topic: string): string => `generation::float8 as generation, text, activity, changes,
    pg_notify(deck.hint_channel(${topic}), ${pg.escapeLiteral(prefix)} || ${topic} || ' ' || key)`
  const silent = 'd.touched < clock_timestamp() - make_interval(secs => $1::float8 / 1000)'
  const named = 'd.mission_id = t.mission and d.citizen = t.citizen and d.key = t.key'

  return {
    /**
     * Opens a draft (offset 0), or continues the stored draft if its length equals `offset`. A draft that is opened again keeps its steps
     * if it has no text yet. `taking`: also the draft of a different
     * author, since the caller holds the task that the draft answers.
     */
    async claim({ topic, key }: DraftName, author: string, offset: number, taking = false): Promise<Claim> {
      const { mission, citizen } = topicParts(topic)
      const message = await this.claimed({ topic, key }, author)
      if (message) return { message }
      const { rows } = await main.query<Columns>(
        offset === 0
          ? {
              name: 'draft-open',
              text: `insert into deck.drafts as d (mission_id, citizen, key, author) values ($1, $2, $3, $4)
                     on conflict (mission_id, citizen, key) do update
                       set generation = d.generation + 1, text = '', units = 0, aborted = false, touched = clock_timestamp(),
                         author = excluded.author,
                         activity = case when d.units = 0 and not d.aborted then d.activity end,
                         changes = case when d.units = 0 and not d.aborted then d.changes else 0 end
                       where d.author = excluded.author or $6
                     returning ${claimedColumns('$5::text')}`,
              values: [mission, citizen, key, author, topic, taking],
            }
          : {
              name: 'draft-continue',
              text: `update deck.drafts
                     set generation = generation + 1, aborted = false, touched = clock_timestamp(), author = $4
                     where mission_id = $1 and citizen = $2 and key = $3 and (author = $4 or $7) and units = $5
                       and touched > clock_timestamp() - interval '24 hours'
                     returning ${claimedColumns('$6::text')}`,
              values: [mission, citizen, key, author, offset, topic, taking],
            },
      )
      return rows[0] ? toContent(rows[0]) : { expected: await this.expected({ topic, key }) }
    },

    /** Returns the message that has this key already, or undefined. */
    async claimed({ topic, key }: DraftName, author: string): Promise<Message | undefined> {
      const { mission, citizen } = topicParts(topic)
      const { rows: messages } = await main.query<MessageColumns>({
        name: 'draft-message',
        text: `select ${messageColumns}
               from chat_messages
               where deck.key_name(mission_id, citizen, author, key) = deck.key_name($1::uuid, $2::text, $3::text, $4::text)
                 and key is not null and seq is not null`,
        values: [mission, citizen, author, key],
      })
      return messages[0] && toMessage(messages[0], mission, citizen ?? '')
    },

    /** Returns whether the draft is stored and not aborted. */
    async exists({ topic, key }: DraftName): Promise<boolean> {
      const { mission, citizen } = topicParts(topic)
      const { rows } = await main.query({
        name: 'draft-exists',
        text: 'select from deck.drafts where mission_id = $1 and citizen = $2 and key = $3 and not aborted',
        values: [mission, citizen, key],
      })
      return rows.length > 0
    },

    /** Returns the stored draft's generation, 0 if it does not exist; concurrent calls share a statement. */
    generation: makeBatched(
      async (names: DraftName[]): Promise<number[]> => {
        const { rows } = await main.query<{ n: number; generation: number }>({
          name: 'draft-generation',
          text: `select t.n, d.generation::float8 as generation
                 from unnest($1::uuid[], $2::text[], $3::text[]) with ordinality as t (mission, citizen, key, n)
                 join deck.drafts d on ${named}`,
          values: columns(names),
        })
        const found = new Map(rows.map(({ n, generation }) => [n, generation]))
        return names.map((_, i) => found.get(i + 1) ?? 0)
      },
      { max: 200, patience },
    ),

    /** Returns the stored draft's length; 0 if it does not exist. */
    async expected({ topic, key }: DraftName): Promise<number> {
      const { mission, citizen } = topicParts(topic)
      const { rows } = await main.query<{ units: number }>({
        name: 'draft-units',
        text: 'select units from deck.drafts where mission_id = $1 and citizen = $2 and key = $3',
        values: [mission, citizen, key],
      })
      return rows[0]?.units ?? 0
    },

    /** Returns an author's stored draft, or the one with this generation; undefined if it does not exist. */
    async read({ topic, key }: DraftName, by: { author: string } | { generation: number }) {
      const { mission, citizen } = topicParts(topic)
      const [author, generation] = 'author' in by ? [by.author, null] : [null, by.generation]
      const { rows } = await main.query<{ text: string; activity: string | null }>({
        name: 'draft-read',
        text: `select text, activity from deck.drafts
               where mission_id = $1 and citizen = $2 and key = $3 and author = coalesce($4, author)
                 and generation = coalesce($5::bigint, generation)`,
        values: [mission, citizen, key, author, generation],
      })
      return rows[0] && { text: rows[0].text, activity: stepsOf(rows[0].activity) }
    },

    /**
     * Saves drafts in one statement. Returns for each whether it was saved: false if its generation has changed. A draft only grows within a
     * generation: of two saves at the same time, the longer text and the newer steps stay. A draft without `activity` keeps its steps.
     */
    async save(drafts: readonly StoredDraft[]): Promise<boolean[]> {
      const withSteps = drafts.some(({ activity }) => activity !== undefined)
      const { rows } = await main.query<{ n: number }>({
        name: withSteps ? 'draft-save-steps' : 'draft-save',
        text: saveOf(withSteps),
        values: [
          ...columns(drafts),
          drafts.map(({ generation }) => generation),
          drafts.map(({ text }) => text),
          drafts.map(({ text }) => text.length),
          ...(withSteps
            ? [
                drafts.map(({ activity }) => activity && JSON.stringify(activity)),
                drafts.map(({ changes }) => changes ?? null),
              ]
            : []),
        ],
      })
      const saved = new Set(rows.map(({ n }) => n))
      return drafts.map((_, i) => saved.has(i + 1))
    },

    /** Deletes an author's draft (null: any author's); with `generation`, only if the draft still has this generation. */
    async drop({ topic, key }: DraftName, author: string | null, generation?: number): Promise<void> {
      const { mission, citizen } = topicParts(topic)
      await main.query({
        name: 'draft-drop',
        text: `delete from deck.drafts
               where mission_id = $1 and citizen = $2 and key = $3 and author = coalesce($4, author)
                 and generation = coalesce($5::bigint, generation)`,
        values: [mission, citizen, key, author, generation ?? null],
      })
    },

    /** Returns a chat's open drafts, newest first, until `loadBytes` are reached. Concurrent calls share a statement. */
    load: makeBatched(
      async (topics: string[]): Promise<StoredDraft[][]> => {
        const [missions, citizens] = columns(topics.map((topic) => ({ topic, key: '' })))
        const { rows } = await main.query<Columns & { n: number; key: string }>({
          name: 'draft-load',
          text: `select x.n, x.key, x.generation::float8 as generation, x.text, x.activity, x.changes from (
                   select t.n, d.key, d.generation, d.text, d.activity, d.changes,
                     sum(octet_length(d.text) + coalesce(octet_length(d.activity), 0)) over (
                     partition by t.n order by d.touched desc, d.key rows between unbounded preceding and 1 preceding) as before
                   from unnest($1::uuid[], $2::text[]) with ordinality as t (mission, citizen, n)
                   join deck.drafts d on d.mission_id = t.mission and d.citizen = t.citizen
                   where not d.aborted and (d.text <> '' or d.activity is not null) and not ${stored}) x
                 where coalesce(x.before, 0) < $3`,
          values: [missions, citizens, loadBytes],
        })
        return topics.map((topic, i) =>
          rows.filter(({ n }) => n === i + 1).map((row) => ({ topic, key: row.key, ...toContent(row) })),
        )
      },
      { max: 16, patience },
    ),

    /**
     * Aborts drafts that were not saved for `silence` ms, and returns them. Deletes drafts older than 24 hours, and silent drafts whose
     * message is stored.
     */
    async expire(silence: number): Promise<(DraftName & { generation: number })[]> {
      await main.query(`delete from deck.drafts where touched < clock_timestamp() - interval '24 hours'`)
      await main.query(`delete from deck.drafts d where not d.aborted and ${silent} and ${stored}`, [silence])
      const { rows } = await main.query<DraftName & { generation: number }>(
        `update deck.drafts d set aborted = true where not d.aborted and ${silent}
         returning 'missions/' || mission_id || '/chat/' || citizen as topic, key, generation::float8 as generation`,
        [silence],
      )
      return rows
    },
  }
}
export type DraftStore = ReturnType<typeof makeDraftStore>
