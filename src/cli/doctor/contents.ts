// Checks of the database's contents: migrations, constraints, triggers, and the seqs of a sample of topics.
import type pg from 'pg'
import { appliedFiles, ownVersion, pendingFiles, schemaFiles, type Violation } from '../../database/postgres/migrate.ts'
import { fail, few, ok, warn, type Finding } from './finding.ts'

/** Compares the schema with this version's. `made`: a schema exists, so that its contents can be checked. */
export const migrations = async (client: pg.Client): Promise<{ finding: Finding; made: boolean }> => {
  const check = 'migrations'
  const advice = 'mission-deck migrate, or start the server: it migrates'
  const applied = await appliedFiles(client)
  if (applied.length === 0) return { finding: fail(check, 'the database is not migrated', advice), made: false }
  const known = (await schemaFiles()).migrations
  const { migrations, functions, newer } = await pendingFiles(applied, await ownVersion())
  const missing = [...migrations, ...functions].map(({ path }) => path)
  const later = applied
    .map(({ path }) => path)
    .filter((path) => path.startsWith('migrations/') && known.every((file) => file.path !== path))
  if (newer !== undefined) later.push(`functions of version ${newer}`)
  const finding =
    missing.length > 0
      ? fail(check, `not applied: ${few(missing)}`, advice)
      : later.length > 0
        ? warn(check, `the database has ${few(later)}, which this version does not know`, 'run the newer version')
        : ok(check, `up to date (${known.at(-1)?.path})`)
  return { finding, made: true }
}

export const violations = async (client: pg.Client): Promise<Finding> => {
  const check = 'rows'
  const { rows } = await client.query<Violation>('select tab, id, broken from deck.violations() order by broken, id')
  if (rows.length === 0) return ok(check, 'all satisfy the constraints')
  const detail = few(rows.map(({ tab, id, broken }) => `${tab} ${id} (${broken})`))
  const names = [...new Set(rows.map(({ tab, broken }) => `alter table ${tab} validate constraint ${broken}`))]
  return warn(
    check,
    `${rows.length} break a constraint: ${detail}`,
    `they stay readable but can't be updated; repair them (select * from deck.violations()), then ${few(names, 2)}`,
  )
}

/** The triggers that assign seqs, keep evidence and measure logs, for each table. */
const needed: Record<string, string[]> = {
  missions: ['give_number', 'refuse_seq', 'refuse_seq_change', 'note_updated', 'note_deleted'],
  dod_items: [
    'refuse_seq',
    'refuse_seq_change',
    'note_inserted',
    'note_updated',
    'note_deleted',
    'keep_evidence',
    'keep_evidence_change',
    'refuse_override',
    'refuse_override_change',
    'note_proof',
    'note_proof_change',
  ],
  chat_messages: ['refuse_seq', 'refuse_seq_change', 'note_inserted', 'note_deleted'],
  test_runs: [
    'refuse_seq',
    'refuse_seq_change',
    'note_inserted',
    'note_updated',
    'note_logs',
    'note_logs_inserted',
    'note_proof',
    'note_proof_change',
    'note_proof_removed',
  ],
  pending: ['number'],
  events: ['size_logs'],
}

export const triggers = async (client: pg.Client): Promise<Finding[]> => {
  const { rows } = await client.query<{ tab: string; name: string; on: boolean }>(
    `select c.relname as tab, t.tgname as name, t.tgenabled in ('O', 'A') as on
     from pg_trigger t join pg_class c on c.oid = t.tgrelid
     where not t.tgisinternal and (c.oid in ('deck.pending'::regclass, 'deck.events'::regclass) or c.oid in ('public.missions'::regclass,
       'public.dod_items'::regclass, 'public.chat_messages'::regclass, 'public.test_runs'::regclass))`,
  )
  const off = rows.filter((row) => !row.on).map(({ tab, name }) => `${tab}.${name}`)
  const there = new Set(rows.map(({ tab, name }) => `${tab}.${name}`))
  const gone = Object.entries(needed).flatMap(([tab, names]) =>
    names.map((name) => `${tab}.${name}`).filter((name) => !there.has(name)),
  )
  const { rows: broken } = await client.query<{ name: string }>(
    `select i.indexrelid::regclass::text as name from pg_index i join pg_class c on c.oid = i.indrelid
     where not i.indisvalid and c.relnamespace in ('public'::regnamespace, 'deck'::regnamespace)`,
  )
  return [
    gone.length > 0
      ? fail(
          'triggers',
          `missing: ${few(gone)}`,
          'rows written by SQL get no seq, or bypass the rules of evidence: restore the database, or ask for help',
        )
      : off.length > 0
        ? fail(
            'triggers',
            `disabled: ${few(off)}`,
            'rows written by SQL get no seq, or bypass the rules of evidence: alter table … enable trigger …',
          )
        : ok('triggers', 'all exist and are enabled'),
    ...(broken.length > 0
      ? [warn('indexes', `not valid: ${few(broken.map(({ name }) => name))}`, 'reindex index concurrently …')]
      : []),
  ]
}

type Topic = { topic: string; rows: number; twice: boolean; back: boolean; low: boolean; unnumbered: boolean }

/** Checks seqs and times of the newest rows in a sample of topics. A chat's messages and events form one log. */
export const seqs = async (client: pg.Client, sample = 50, newest = 200): Promise<Finding[]> => {
  const { rows } = await client.query<Topic>(
    `with topics as materialized (select topic from deck.heads order by random() limit $1),
       log as (
         select t.topic, r.seq, r.at, lag(r.seq) over w as before, lag(r.at) over w as earlier
         from topics t cross join lateral (
           (select c.seq, c.at from chat_messages c
            where t.topic like 'missions/%/chat/%' and c.mission_id = deck.topic_mission(t.topic)
              and c.citizen = deck.topic_citizen(t.topic) collate "default" and c.seq is not null
            order by c.seq desc limit $2)
           union all
           (select e.seq, e.at from deck.events e where e.topic = t.topic order by e.seq desc limit $2)) r
         window w as (partition by t.topic order by r.seq))
     select t.topic, count(l.seq)::int as rows, coalesce(bool_or(l.seq = l.before), false) as twice,
            coalesce(bool_or(l.at < l.earlier), false) as back, coalesce(bool_or(l.seq < 1), false) as low,
            exists (select from chat_messages c
                    where t.topic like 'missions/%/chat/%' and c.mission_id = deck.topic_mission(t.topic)
                      and c.citizen = deck.topic_citizen(t.topic) collate "default" and c.seq is null) as unnumbered
     from topics t left join log l on l.topic = t.topic group by t.topic order by t.topic`,
    [sample, newest],
  )
  const check = 'seqs'
  const topicsWith = (fits: (row: Topic) => boolean): string[] => rows.filter(fits).map(({ topic }) => topic)
  const kinds: [string[], string, string][] = [
    [
      topicsWith((row) => row.unnumbered),
      'messages without a seq in',
      'they are never delivered; a trigger was disabled: see triggers',
    ],
    [
      topicsWith((row) => row.twice),
      'duplicate seqs in',
      'clients miss one of the two rows: restore the database, or renumber by hand',
    ],
    [
      topicsWith((row) => row.low),
      'seqs below 1 in',
      "clients can't read them: restore the database, or renumber by hand",
    ],
  ]
  const faults = kinds
    .filter(([topics]) => topics.length > 0)
    .map(([topics, what, advice]) => fail(check, `${what} ${few(topics)}`, advice))
  const back = topicsWith((row) => row.back)
  if (back.length > 0)
    faults.push(
      warn(check, `times go back in ${few(back)}`, 'its timeline is out of order; the order of seqs is the valid one'),
    )
  const total = rows.reduce((sum, row) => sum + row.rows, 0)
  return faults.length > 0 ? faults : [ok(check, `valid in ${rows.length} topics checked (${total} rows)`)]
}
