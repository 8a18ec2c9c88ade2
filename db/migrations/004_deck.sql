-- Topics and everything that stands on them. Each row or event of a topic has a seq: 1, 2, 3 … without gaps, in commit order.
--
-- This file adopts rows that migrations 000 to 003 hold by then, however those were applied, and makes the tables, columns,
-- indexes, constraints and triggers. Old rows that violate a constraint get their seq and stay readable; deck.violations()
-- lists them. Functions are in db/functions, except those that an index or a CHECK depends on.

create schema if not exists deck;

-- Topics ----------------------------------------------------------------------------------------------------------

-- A topic's lock: numbering locks the row and does not update it, so that an open transaction leaves no dead versions behind.
-- A topic's latest seq is the greatest of its rows' seqs and its floor. The floor is the greatest seq of removed rows.
-- No foreign key: a head outlives its mission.
create table deck.heads (
  topic text collate "C" primary key,
  floor bigint not null default 0
);

-- Immutable events of missions, DoD items, test runs and their logs, and the clearings of chats.
-- (A chat message is its own event: chat_messages is the log of chats.)
create table deck.events (
  topic text collate "C" not null,
  seq   bigint not null,
  event text not null,
  data  jsonb not null,
  at    timestamp not null,                  -- when it was numbered; never decreases along a topic's seq
  primary key (topic, seq)
);

-- What the open transaction has changed and not yet numbered; no row outlives its transaction.
create unlogged table deck.pending (
  id         bigint generated always as identity primary key,
  xid        xid8 not null default pg_current_xact_id(),
  topic      text,
  mission_id uuid,
  row_id     uuid,
  event      text,                           -- 'floor' and 'proof' are notes of our own and get no seq
  data       jsonb,
  messages   uuid[]                          -- instead of an event: the messages that one statement inserted
);
create index pending_xid on deck.pending (xid);

-- Keys of messages that a clearing removed: they are refused for 24 hours.
create table deck.cleared_keys (
  mission_id uuid not null references public.missions (id) on delete cascade,
  citizen    text not null,
  author     text not null,                  -- '' if the message had none
  key        text not null,
  cleared_at timestamp not null,
  primary key (mission_id, citizen, author, key)
);

-- Runs whose log has chunks that are not yet folded into test_runs.logs.
create table deck.open_logs (run_id uuid primary key references public.test_runs (id) on delete cascade);

-- One row: a change of it gives the database a new epoch.
create table deck.epoch_salt (one boolean primary key default true check (one), salt text not null);
insert into deck.epoch_salt (salt) values (gen_random_uuid()::text);

-- Access ----------------------------------------------------------------------------------------------------------

-- Subjects and tokens that are refused: `name` is a token's sub or its jti. A row counts from its commit on, on every instance.
create table deck.revocations (
  id   bigint generated always as identity,
  name text primary key check (octet_length(name) between 1 and 1024),
  by   text not null,
  at   timestamp not null default (now() at time zone 'utc')
);

-- Single-use tickets by their SHA-256; `actor` is what the token said. Useless after 30 s, so unlogged.
create unlogged table deck.tickets (
  digest     bytea primary key,
  actor      jsonb not null,
  expires_at timestamptz not null
);
create index tickets_expires_at on deck.tickets (expires_at);

-- What was done with more than a user's rights. It outlives its mission; our functions never change or delete a row.
create table deck.audit (
  id         bigint generated always as identity primary key,
  at         timestamp not null default (clock_timestamp() at time zone 'utc'),
  action     text not null constraint audit_action_check check (action ~ '^[a-z_]+(\.[a-z_]+)?$'),
  actor      text not null,                  -- the token's sub, or the operator of the command
  mission_id uuid,
  detail     jsonb not null default '{}',
  db_user    text not null default session_user
);
create index audit_at on deck.audit (at);

-- How far each sub has read each chat. No foreign key: a read does not wait for the deletion of its mission.
create table deck.reads (
  mission_id uuid,
  citizen    text,
  sub        text check (octet_length(sub) <= 1024),
  seq        bigint not null,
  primary key (mission_id, citizen, sub)
);

-- Drafts and inboxes ----------------------------------------------------------------------------------------------

-- Replies that are still being written, as their writers' instances last saved them. Unlogged: a crash of Postgres may lose them.
-- A session that opens or continues a draft raises its generation; saves of an older generation are refused.
create unlogged table deck.drafts (
  mission_id uuid,
  citizen    text,
  key        text check (octet_length(key) <= 64),
  author     text not null,
  generation bigint not null default 1,
  text       text not null default '',
  units      integer not null default 0,      -- length of the text in UTF-16 code units
  aborted    boolean not null default false,  -- silent for too long; its writer may still continue it
  touched    timestamptz not null default clock_timestamp(),
  primary key (mission_id, citizen, key)
);
create index drafts_touched on deck.drafts (touched);

-- Citizens that have asked for work.
create table deck.inboxes (
  citizen text primary key,
  since   timestamptz not null default clock_timestamp()
);

-- The seq up to which a chat was searched for tasks; a chat without a row began after the inbox.
create table deck.inbox_chats (
  citizen    text,
  mission_id uuid,
  upto       bigint not null,
  primary key (citizen, mission_id)
);

-- No foreign keys: nothing waits for the deletion of a mission; housekeeping removes a task whose message is gone.
create table deck.tasks (
  id          uuid primary key,              -- the message's
  citizen     text not null,
  mission_id  uuid not null,
  seq         bigint not null,
  at          timestamp not null,            -- when it was numbered: the oldest is leased first
  attempt     integer not null default 0,
  holder      uuid,                          -- the session that has, or had, it
  lease_until timestamptz,                   -- null: no session has it
  ready_at    timestamptz not null default clock_timestamp(),
  ended       timestamptz,                   -- kept for a day, so that a holder may end it twice
  dead        boolean not null default false
);
create index tasks_open on deck.tasks (citizen, at, mission_id, seq) where ended is null and not dead;
create index tasks_held on deck.tasks (holder) where lease_until is not null;

-- Search ----------------------------------------------------------------------------------------------------------

-- For every 500 messages of a chat one row with all their words, languages and senders, and the span of their times. It says where
-- to look, never what is found: the messages themselves are read and compared. Rows are added behind the writers (deck.search_index);
-- newer messages are scanned. No foreign keys: nothing waits.
create table deck.search_blocks (
  mission_id uuid,
  citizen    text,
  first      bigint not null,                -- a chat's blocks are contiguous: what lies between two was removed
  last       bigint,
  earliest   timestamp,
  latest     timestamp,
  words      tsvector not null,              -- with marks: \1 the chat, \2 a language (bare: unknown), \3 a sender, \4 anything, \5 a word of code
  code       boolean not null default false, -- whether it marks words of code
  primary key (mission_id, citizen, last)
);
create index search_blocks_words on deck.search_blocks using gin (words);
create index search_blocks_old on deck.search_blocks (mission_id, citizen, last) where not code;

-- Messages that were changed or removed after they were numbered: they are scanned until their block is rebuilt.
create table deck.search_stale (
  id         bigint generated always as identity primary key,
  mission_id uuid not null,
  citizen    text not null,
  first      bigint not null,
  last       bigint not null
);
create index search_stale_chat on deck.search_stale (mission_id, citizen, first);

-- One row: the instance that builds blocks, and until when.
create table deck.search_turn (one boolean primary key default true check (one), holder text, until timestamptz not null);
insert into deck.search_turn (until) values ('epoch');

-- The past --------------------------------------------------------------------------------------------------------

-- A mission's row before its first change, which no event holds.
create table deck.beginnings (
  mission_id uuid primary key references public.missions (id) on delete cascade,
  data       jsonb not null
);

-- What places deleted items and runs in a list of an earlier time. No foreign key: nothing waits.
create table deck.removed (
  id         uuid primary key,
  mission_id uuid not null,
  ordinal    bigint,                         -- of an item
  created_at timestamp,                      -- of a run
  at         timestamp not null              -- when it was deleted: a run's deletion is no event
);
create index removed_mission on deck.removed (mission_id);

-- The time up to which a mission was pruned: there is no state of an earlier time.
create table deck.pruned (
  mission_id uuid primary key references public.missions (id) on delete cascade,
  before     timestamp not null
);

-- The events of one item or run, without those of logs, which are many.
create index events_of_row on deck.events ((data ->> 'id'), seq)
  where event in ('test_run.created', 'test_run.updated', 'dod_item.created', 'dod_item.updated', 'dod_item.deleted');

-- Where a run's chunks end, in bytes. Rows are only added: an open transaction leaves no dead versions. No foreign key: its check could
-- wait under the head's lock.
create table deck.log_sizes (
  run_id uuid,
  first  bigint not null,                    -- the seq at which the log begins: the last replacement, or the first chunk
  upto   bigint not null,                    -- bytes of UTF-8 from there to the end of this chunk
  seq    bigint not null,
  primary key (run_id, first, upto) include (seq)
);

-- Items whose evidence may be out of date, because another transaction had locked them when a run was written. No unique key: two
-- transactions that note the same item do not wait for each other.
create table deck.unproven (item uuid not null);

-- Columns of the seed's tables ------------------------------------------------------------------------------------

alter table public.missions      add column number integer;
alter table public.missions      add column seq    bigint not null default 0;
alter table public.dod_items     add column seq    bigint not null default 0;
alter table public.dod_items     add column ordinal bigint generated by default as identity;
alter table public.dod_items     add column test_name       text;
alter table public.dod_items     add column evidence_run    uuid;      -- no foreign key: a run's deletion is weighed like any change
alter table public.dod_items     add column evidence_status text;      -- null if the item names no test
alter table public.dod_items     add column evidence_at     timestamp; -- created_at of that run
alter table public.dod_items     add column override_reason text;      -- completed without evidence, by an admin
alter table public.dod_items     add column override_by     text;
alter table public.dod_items     add column override_at     timestamp;
alter table public.test_runs     add column seq    bigint not null default 0;
alter table public.test_runs     add column logs_upto bigint not null default 0; -- seq of the last chunk that logs holds
alter table public.chat_messages add column author text;
alter table public.chat_messages add column key    text;
alter table public.chat_messages add column seq    bigint;
alter table public.chat_messages add column at     timestamp;

-- TIMESTAMP columns hold UTC, whatever the time zone of the session that inserts.
alter table public.missions      alter column created_at set default (now() at time zone 'utc');
alter table public.chat_messages alter column created_at set default (now() at time zone 'utc');
alter table public.test_runs     alter column created_at set default (now() at time zone 'utc');

-- Deleting a mission deletes its rows.
do $$
declare r record;
begin
  for r in
    select c.conname, c.conrelid::regclass as tab
    from pg_constraint c
    where c.contype = 'f' and c.confrelid = 'public.missions'::regclass and c.confdeltype <> 'c'
      and c.conrelid in ('public.dod_items'::regclass, 'public.chat_messages'::regclass, 'public.test_runs'::regclass)
  loop
    execute format('alter table %s drop constraint %I', r.tab, r.conname);
    execute format('alter table %s add constraint %I foreign key (mission_id) references public.missions (id) on delete cascade', r.tab, r.conname);
  end loop;
end $$;

create unique index chat_messages_topic_seq on public.chat_messages (mission_id, citizen, seq);
-- Its columns are the prefix of chat_messages_topic_seq; one index less to write for each message.
drop index if exists public.idx_chat_mission_citizen;

-- Adoption of older rows ------------------------------------------------------------------------------------------

create sequence deck.mission_number as integer start 47;

do $$
declare r record; n integer;
begin
  for r in select id from public.missions where number is null order by created_at nulls first, id loop
    loop
      n := nextval('deck.mission_number');
      exit when not exists (select from public.missions where number = n);
    end loop;
    update public.missions set number = n where id = r.id;
  end loop;
end $$;

-- Their JSON forms are written out: this file runs before db/functions and does not change with it.
with
  old as materialized (
    select o.*, row_number() over (partition by o.topic order by o.created_at nulls first, o.id) as seq
    from (
      select c.id, c.created_at, 'missions/' || c.mission_id || '/chat/' || c.citizen as topic, null as event, null::jsonb as data
      from public.chat_messages c
      union all
      select t.id, t.created_at, 'missions/' || t.mission_id || '/tests', 'test_run.created', jsonb_build_object(
        'id', t.id, 'mission_id', t.mission_id, 'status', t.status, 'summary', t.summary, 'results', t.results,
        'created_at', (to_json(t.created_at) #>> '{}') || 'Z')
      from public.test_runs t
      union all
      select t.id, t.created_at, 'missions/' || t.mission_id || '/tests/' || t.id || '/logs', 'log.appended', jsonb_build_object(
        'run_id', t.id, 'mission_id', t.mission_id, 'chunk', t.logs)
      from public.test_runs t where t.logs <> ''
      union all
      select d.id, m.created_at, 'missions/' || d.mission_id || '/dod', 'dod_item.created', jsonb_build_object(
        'id', d.id, 'mission_id', d.mission_id, 'text', d.text, 'category', d.category,
        'completed', coalesce(d.completed, false), 'completed_at', (to_json(d.completed_at) #>> '{}') || 'Z')
      from public.dod_items d join public.missions m on m.id = d.mission_id
    ) o
  ),
  heads as (insert into deck.heads (topic) select distinct topic from old),
  numbered as materialized (
    select o.*,
      -- Never ahead of the clock: new rows follow, and their times must not follow an old one into the future.
      max(least(greatest(o.created_at, '1970-01-01'), now() at time zone 'utc')) over (partition by o.topic order by o.seq) as at
    from old o
  ),
  chats as (update public.chat_messages c set seq = n.seq, at = n.at from numbered n where n.event is null and c.id = n.id),
  dods as (update public.dod_items d set seq = n.seq from numbered n where n.event = 'dod_item.created' and d.id = n.id),
  runs as (update public.test_runs t set seq = n.seq from numbered n where n.event = 'test_run.created' and t.id = n.id),
  sizes as (
    insert into deck.log_sizes (run_id, first, upto, seq)
    select n.id, n.seq, octet_length(n.data ->> 'chunk'), n.seq from numbered n where n.event = 'log.appended'
  )
insert into deck.events (topic, seq, event, data, at)
select n.topic, n.seq, n.event, n.data || jsonb_build_object('seq', n.seq), n.at from numbered n where n.event is not null;

-- Constraints -----------------------------------------------------------------------------------------------------

alter table public.missions alter column number set not null;
create unique index missions_number on public.missions (number);
create index dod_items_mission on public.dod_items (mission_id, ordinal);

-- A key's name among all chats and authors, as one text: an index on the four columns has the same prefix as chat_messages_topic_seq, and
-- a plan made without statistics walks a whole chat by that one to find a key. (No citizen or key contains a line feed.)
create function deck.key_name(mission uuid, citizen text, author text, key text) returns text
language sql immutable parallel safe
  return mission::text || citizen || E'\n' || key || E'\n' || coalesce(author, '');
-- Numbered rows only: an open transaction with the same key makes nothing wait.
create unique index chat_messages_key on public.chat_messages (deck.key_name(mission_id, citizen, author, key))
  where key is not null and seq is not null;

create function deck.finite(t timestamp) returns boolean language sql immutable parallel safe
  return t is null or (t >= timestamp '0001-01-01' and t < timestamp '10000-01-01');

-- plpgsql: SQL functions in a constraint are parsed and planned anew for each statement, which costs a single INSERT 0.1 ms.
create function deck.valid_blocks(b jsonb) returns boolean language plpgsql immutable parallel safe as $$
begin
  return jsonb_typeof(b) = 'array' and (
    select coalesce(
      bool_and(jsonb_typeof(e) = 'object' and jsonb_typeof(e -> 'code') is not distinct from 'string'
               and coalesce(jsonb_typeof(e -> 'language'), 'null') in ('string', 'null'))
        and sum(octet_length(e ->> 'code') + coalesce(octet_length(e ->> 'language'), 0)) <= 262144, true)
    from jsonb_array_elements(case when jsonb_typeof(b) = 'array' then b else '[]' end) e);
end $$;

-- Added without a check of old rows, then validated where all rows satisfy them.
do $$
declare r record;
begin
  for r in
    select * from (values
      ('missions', 'missions_status_valid', $c$status in ('active', 'qa', 'complete')$c$),
      ('missions', 'missions_number_valid', $c$number > 0$c$),
      ('missions', 'missions_text_valid', $c$char_length(title) between 1 and 1000 and char_length(client) between 1 and 1000 and char_length(assigned_to) between 1 and 256$c$),
      ('missions', 'missions_github_url_valid', $c$github_url ~ '^https?://[^\s]+$' and char_length(github_url) <= 2000$c$),
      ('missions', 'missions_time_valid', $c$created_at is not null and deck.finite(created_at) and deck.finite(deadline)$c$),
      ('dod_items', 'dod_items_category_valid', $c$category in ('functional', 'non-functional', 'tests')$c$),
      ('dod_items', 'dod_items_text_valid', $c$char_length(text) between 1 and 10000$c$),
      ('dod_items', 'dod_items_time_valid', $c$deck.finite(completed_at)$c$),
      ('dod_items', 'dod_items_test_name_valid', $c$char_length(test_name) between 1 and 1000$c$),
      ('dod_items', 'dod_items_override_valid', $c$override_reason is null or (char_length(override_reason) between 1 and 1000 and completed and test_name is not null)$c$),
      ('chat_messages', 'chat_messages_citizen_valid', $c$citizen collate "C" ~ '^[a-z][a-z0-9_-]{0,31}$'$c$),
      ('chat_messages', 'chat_messages_sender_valid', $c$sender in ('user', 'citizen')$c$),
      ('chat_messages', 'chat_messages_message_valid', $c$char_length(message) between 1 and 10000$c$),
      ('chat_messages', 'chat_messages_author_valid', $c$char_length(author) between 1 and 256$c$),
      ('chat_messages', 'chat_messages_key_valid', $c$key collate "C" ~ '^[\x20-\x7e]{1,64}$'$c$),
      ('chat_messages', 'chat_messages_code_blocks_valid', $c$code_blocks is null or deck.valid_blocks(code_blocks)$c$),
      ('chat_messages', 'chat_messages_time_valid', $c$created_at is not null and created_at >= '0001-01-01' and created_at < '10000-01-01'$c$),
      ('test_runs', 'test_runs_status_valid', $c$status in ('running', 'passed', 'failed')$c$),
      ('test_runs', 'test_runs_summary_valid', $c$jsonb_typeof(summary) = 'object' and octet_length(summary::text) <= 1048576$c$),
      ('test_runs', 'test_runs_results_valid', $c$jsonb_typeof(results) = 'array' and octet_length(results::text) <= 1048576$c$),
      ('test_runs', 'test_runs_time_valid', $c$created_at is not null and deck.finite(created_at)$c$)
    ) as c (tab, name, expr)
  loop
    execute format('alter table public.%I add constraint %I check (%s) not valid', r.tab, r.name, r.expr);
    begin
      execute format('alter table public.%I validate constraint %I', r.tab, r.name);
    exception when check_violation then
      raise notice '%: old rows violate %; see deck.violations()', r.tab, r.name;
    end;
  end loop;
end $$;

-- What numbering reads --------------------------------------------------------------------------------------------

-- What this transaction has changed and not yet numbered, in order. It reads the tables again: removed messages and parts of a removed
-- mission do not count. 'floor' is no event: its data is the greatest seq of a topic's rows that this transaction removed.
-- Lookups are laterals with a limit, which are never turned into joins: a session that had inserted single rows kept a plan that
-- walked all new rows for each new row.
create view deck.noted as
  select p.id as stmt, r.ord, 'missions/' || c.mission_id || '/chat/' || c.citizen as topic,
         c.mission_id, c.id as row_id, null::text as event, null::jsonb as data, c.spot, c.keyed
  from deck.pending p
  cross join lateral unnest(p.messages) with ordinality as r (id, ord)
  cross join lateral (
    select m.mission_id, m.citizen, m.id, m.ctid as spot, m.key is not null as keyed from public.chat_messages m
    where m.id = r.id and m.seq is null limit 1) c
  where p.xid = pg_current_xact_id_if_assigned() and p.messages is not null
  union all
  select p.id, 1, p.topic, p.mission_id, p.row_id, p.event, p.data, null, false
  from deck.pending p
  where p.xid = pg_current_xact_id_if_assigned() and p.messages is null and p.event <> 'proof'
    and (p.event in ('mission.deleted', 'floor') or exists (select from public.missions m where m.id = p.mission_id));

-- Triggers --------------------------------------------------------------------------------------------------------

-- Their functions are in db/functions, which the same transaction applies after this file. Until then they refuse every write.
do $$
declare name text;
begin
  foreach name in array array[
    'number', 'note_messages', 'note_removed_messages', 'note_missions', 'note_dod_items', 'note_test_runs', 'note_logs', 'forget_logs',
    'size_logs', 'give_number', 'give_completed_at', 'refuse', 'audit_mission', 'audit_override', 'tell_revocations', 'tell_mission',
    'forget_reads', 'note_stale', 'keep_evidence', 'refuse_override', 'note_run_proof', 'note_item_proof', 'keep_beginning',
    'keep_removed', 'forget_removed']
  loop
    execute format($f$create function deck.%I() returns trigger language plpgsql as
      $b$ begin raise exception 'db/functions is not applied to this database'; end $b$ $f$, name);
  end loop;
end $$;

-- Numbering at commit: all of a transaction's topics at once.
create constraint trigger number after insert on deck.pending
  deferrable initially deferred for each row execute function deck.number();

-- Only numbering and weighing assign seqs and evidence, and what they write is not noted again. They declare it by a setting, which any
-- role can make, and prove it by a privilege on the heads.
do $$
declare
  ours      constant text := $c$has_table_privilege('deck.heads'::regclass, 'update')$c$;
  numbering constant text := format($c$(current_setting('deck.numbering', true) is not distinct from 'on' and %s)$c$, ours);
  busy      constant text := format(
    $c$(%s and (current_setting('deck.numbering', true) is not distinct from 'on' or current_setting('deck.weighing', true) is not distinct from 'on'))$c$, ours);
  given     constant text := $c$(new.test_name is not null or new.evidence_run is not null or new.evidence_status is not null
    or new.evidence_at is not null or new.override_reason is not null or new.override_by is not null or new.override_at is not null)$c$;
  t text;
begin
  foreach t in array array['missions', 'dod_items', 'test_runs'] loop
    execute format($c$
      create trigger refuse_seq before insert on public.%1$I for each row
        when (new.seq <> 0 and not %2$s) execute function deck.refuse('seq is given by the database');
      create trigger refuse_seq_change before update on public.%1$I for each row
        when (new.seq is distinct from old.seq and not %2$s) execute function deck.refuse('seq is given by the database');
      create trigger note_updated after update on public.%1$I referencing old table as old_rows new table as new_rows
        for each statement when (not %2$s) execute function deck.note_%1$s()
    $c$, t, numbering);
  end loop;
  execute format($c$
    create trigger refuse_seq before insert on public.chat_messages for each row
      when ((new.seq is not null or new.at is not null) and not %1$s)
      execute function deck.refuse('seq is given by the database');
    create trigger refuse_seq_change before update on public.chat_messages for each row
      when ((new.seq is distinct from old.seq or new.at is distinct from old.at) and not %1$s)
      execute function deck.refuse('seq is given by the database');
    create trigger note_inserted after insert on public.chat_messages referencing new table as new_rows
      for each statement when (not %1$s) execute function deck.note_messages();
    create trigger note_logs after update of logs on public.test_runs
      for each row when (not %1$s) execute function deck.note_logs();
    -- (An item that is restored keeps its completion without a time.)
    create trigger give_completed_at before insert or update on public.dod_items
      for each row when (coalesce(new.completed, false) <> (new.completed_at is not null) and not %1$s)
      execute function deck.give_completed_at()
  $c$, numbering);
  execute format($c$
    create trigger keep_evidence before insert on public.dod_items for each row
      when (%1$s) execute function deck.keep_evidence();
    create trigger keep_evidence_change before update on public.dod_items for each row
      when ((%1$s or old.test_name is not null) and not %2$s) execute function deck.keep_evidence();
    create trigger refuse_override before insert on public.dod_items for each row
      when (new.override_reason is not null and not %3$s) execute function deck.refuse_override();
    create trigger refuse_override_change before update on public.dod_items for each row
      when (new.override_reason is distinct from old.override_reason and coalesce(new.completed, false) and not %3$s)
      execute function deck.refuse_override();
    create trigger note_proof after insert on public.dod_items for each row
      when (new.test_name is not null) execute function deck.note_item_proof();
    create trigger note_proof_change after update on public.dod_items for each row
      when (new.test_name is not null and not %2$s) execute function deck.note_item_proof();
    -- (An override that is restored is not new.)
    create trigger audit_override after insert on public.dod_items for each row
      when (new.override_reason is not null and not %2$s) execute function deck.audit_override();
    create trigger audit_override_change after update on public.dod_items for each row
      when (new.override_reason is not null and new.override_reason is distinct from old.override_reason and not %2$s)
      execute function deck.audit_override()
  $c$, given, busy, ours);
end $$;

create trigger refuse_move before update on public.missions for each row
  when (new.id <> old.id) execute function deck.refuse('a mission keeps its id');
create trigger refuse_move before update on public.dod_items for each row
  when (new.id <> old.id or new.mission_id <> old.mission_id) execute function deck.refuse('an item keeps its id and mission');
create trigger refuse_move before update on public.test_runs for each row
  when (new.id <> old.id or new.mission_id <> old.mission_id) execute function deck.refuse('a run keeps its id and mission');
create trigger refuse_move before update on public.chat_messages for each row
  when (old.seq is not null and (new.id <> old.id or new.mission_id <> old.mission_id or new.citizen <> old.citizen
        or new.key is distinct from old.key or new.author is distinct from old.author))
  execute function deck.refuse('a message keeps its id, chat, author and key');

create trigger give_number before insert on public.missions
  for each row when (new.number is null) execute function deck.give_number();
create trigger tell after insert or delete on public.missions
  for each row execute function deck.tell_mission();
create trigger tell_change after update on public.missions
  for each row when (to_jsonb(new) - 'seq' <> to_jsonb(old) - 'seq') execute function deck.tell_mission();
create trigger keep_beginning after update on public.missions
  for each row when (old.seq = 0 and new.seq = 0 and old is distinct from new) execute function deck.keep_beginning();
create trigger audit_deleted after delete on public.missions
  for each row execute function deck.audit_mission();
create trigger note_deleted after delete on public.missions referencing old table as old_rows
  for each statement execute function deck.note_missions();
create trigger forget_reads after delete on public.missions referencing old table as old_rows
  for each statement execute function deck.forget_reads();
create trigger forget_removed after delete on public.missions referencing old table as old_rows
  for each statement execute function deck.forget_removed();

create trigger note_deleted after delete on public.chat_messages referencing old table as old_rows
  for each statement execute function deck.note_removed_messages();
create trigger note_stale after delete on public.chat_messages referencing old table as old_rows
  for each statement execute function deck.note_stale();
-- (The column list excludes numbering.)
create trigger note_stale_change after update of sender, message, code_blocks, created_at on public.chat_messages
  for each row execute function deck.note_stale();

create trigger note_inserted after insert on public.dod_items referencing new table as new_rows
  for each statement execute function deck.note_dod_items();
create trigger note_deleted after delete on public.dod_items referencing old table as old_rows
  for each statement execute function deck.note_dod_items();
create trigger keep_removed after delete on public.dod_items
  for each row execute function deck.keep_removed();

create trigger note_inserted after insert on public.test_runs referencing new table as new_rows
  for each statement execute function deck.note_test_runs();
create trigger note_logs_inserted after insert on public.test_runs
  for each row when (new.logs <> '') execute function deck.note_logs();
create trigger forget_logs after delete on public.test_runs
  for each row execute function deck.forget_logs();
create trigger keep_removed after delete on public.test_runs
  for each row execute function deck.keep_removed();
create trigger note_proof after insert on public.test_runs for each row
  when (new.status in ('passed', 'failed') and new.results is not null) execute function deck.note_run_proof();
create trigger note_proof_change after update of status, results, created_at on public.test_runs for each row
  when (((old.status in ('passed', 'failed') and old.results is not null) or (new.status in ('passed', 'failed') and new.results is not null))
    and (new.status is distinct from old.status or new.results is distinct from old.results or new.created_at is distinct from old.created_at))
  execute function deck.note_run_proof();
create trigger note_proof_removed after delete on public.test_runs for each row
  when (old.status in ('passed', 'failed') and old.results is not null) execute function deck.note_run_proof();

create trigger size_logs after insert on deck.events
  for each row when (new.event in ('log.appended', 'log.replaced')) execute function deck.size_logs();
create trigger tell after insert or update or delete on deck.revocations
  for each statement execute function deck.tell_revocations();

-- The version before ----------------------------------------------------------------------------------------------

-- Instances of the version before compare their list of migrations with this one at their start and apply what it lacks. It is complete,
-- so that such an instance can start here, in the middle of a rolling upgrade or after a rollback, and changes nothing.
create table if not exists deck.migrations (id serial primary key, name varchar(255) not null, run_on timestamp not null);
insert into deck.migrations (name, run_on)
select n.name, now()
from unnest(array[
  '000_base_schema', '001_add_github_url', '002_add_citizen_to_chat', '003_create_test_runs', '004_topics', '005_numbering', '006_append',
  '007_access', '008_batches', '009_numbering', '010_reads', '011_list', '012_drafts', '013_inbox', '014_search', '015_evidence',
  '016_timeline', '017_carry', '018_logs', '019_find', '020_words', '021_numbering', '022_scale']) with ordinality as n (name, ord)
where not exists (select from deck.migrations m where m.name = n.name)
order by n.ord;
