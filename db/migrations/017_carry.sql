-- Import and export. Messages of other programs come in by batches, numbered under the heads like any other; exported missions are
-- put back with the ids, seqs and times that they had, which nothing but deck.restore may do.

-- A batch of messages with their own times, in one call that is a transaction of its own (the caller's, if it has begun one).
--
-- topics:  the chats, sorted and without doubles; chats: for each entry the place of its chat among them, from 1.
-- entries: an array a column; an array that would hold nulls only may be null. A time that is null is now.
--
-- others:  [{ n, why }] for what was not saved, n from 1: 'seen' (its id is in this chat, or its key was used before), 'cleared' (its
--          key was, and a clearing removed it less than 24 hours ago), 'taken' (its id is in another chat), 'gone' (no such mission).
--          null if all were saved. With `strict` anything but 'seen' is an error (DK103), and nothing is saved.
--
-- Rows first (the missions' key shares), then the heads in order, as everywhere.
create or replace function deck.import_messages(
  topics text[], chats integer[], ids uuid[], senders text[], authors text[], messages text[], blocks text[], keys text[],
  times timestamp[], strict boolean, out others json)
language plpgsql
-- Plans are kept for a session: what is looked up is looked up by laterals with a limit, which are never turned into joins.
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = on as $$
#variable_conflict use_column
declare
  moment timestamp;
  bad record;
begin
  perform from (
    select from public.missions
    where id = any (array(select substr(t, 10, 36)::uuid from unnest(import_messages.topics) t)) order by id for key share) locked;
  insert into deck.heads (topic)
  select t from unnest(import_messages.topics) t
  where exists (select from public.missions where id = substr(t, 10, 36)::uuid) order by t collate "C"
  on conflict do nothing;
  perform from (select from deck.heads where topic = any (import_messages.topics) order by topic for update) locked;

  perform deck.mark();
  -- Later statements than the locks, so that they see what the former holders committed.
  moment := clock_timestamp() at time zone 'utc';
  perform set_config('deck.numbering', 'on', true);
  with
    place as materialized (
      select t.n, t.topic, substr(t.topic, 52) as citizen, m.id as mission, greatest(h.floor, c.seq, e.seq) as head,
        greatest(moment, c.at, e.at) as at
      from unnest(import_messages.topics) with ordinality as t (topic, n)
      left join lateral (select id from public.missions where id = substr(t.topic, 10, 36)::uuid limit 1) m on true
      left join lateral (select floor from deck.heads where topic = t.topic and m.id is not null limit 1) h on true
      left join lateral (
        select seq, at from public.chat_messages
        where mission_id = m.id and citizen = substr(t.topic, 52) and seq is not null
        order by seq desc limit 1) c on true
      left join lateral (select seq, at from deck.events where topic = t.topic and m.id is not null order by seq desc limit 1) e on true
    ),
    entry as materialized (
      select e.n, e.chat, e.id, e.sender, e.author, e.message, e.blocks, e.key, e.time, p.mission, p.citizen, p.head, p.at,
        case
          when p.head is null then 'gone'
          when k.mission_id = p.mission and k.citizen = p.citizen then 'seen'
          when k.mission_id is not null then 'taken'
          when s.id is not null then 'seen'
          when c.key is not null then 'cleared'
        end as why
      from rows from (unnest(chats), unnest(ids), unnest(senders), unnest(authors), unnest(messages), unnest(blocks),
          unnest(keys), unnest(times))
        with ordinality as e (chat, id, sender, author, message, blocks, key, time, n)
      join place p on p.n = e.chat
      left join lateral (select mission_id, citizen from public.chat_messages where id = e.id limit 1) k on true
      left join lateral (
        select id from public.chat_messages
        where deck.key_name(mission_id, citizen, author, key) = deck.key_name(p.mission, p.citizen, e.author, e.key)
          and key is not null and seq is not null limit 1) s on e.key is not null
      left join lateral (
        select key from deck.cleared_keys
        where mission_id = p.mission and citizen = p.citizen and author = coalesce(e.author, '') and key = e.key
          and cleared_at > moment - interval '24 hours' limit 1) c on e.key is not null
    ),
    inserted as (
      insert into public.chat_messages
        (id, mission_id, citizen, sender, author, message, code_blocks, key, created_at, seq, at)
      select e.id, e.mission, e.citizen, e.sender, e.author, e.message, e.blocks::jsonb, e.key, coalesce(e.time, e.at),
             e.head + row_number() over (partition by e.chat order by e.n), e.at
      from entry e
      where e.why is null
      returning mission_id, citizen, seq
    ),
    told as (
      select deck.hint(array_agg(x.topic), array_agg(x.seq)) from (
        select 'missions/' || mission_id || '/chat/' || citizen as topic, max(seq) as seq from inserted group by mission_id, citizen) x
    )
  select (select json_agg(json_build_object('n', e.n, 'why', e.why)) from entry e where e.why is not null) into others from told;
  perform set_config('deck.numbering', 'off', true);
  if strict and others is not null then
    select x.* into bad from json_to_recordset(others) as x (n integer, why text) where x.why <> 'seen' order by x.n limit 1;
    if found then
      raise exception using errcode = 'DK103', message = bad.why, detail = bad.n::text;
    end if;
  end if;
end $$;

-- What is carried ---------------------------------------------------------------------------------------------------

-- What an exported mission consists of, in the order in which it is written and put back. `mission` is the mission of a row r,
-- `within` which rows are of the mission %L, `sort` an order that is the same in every database. Whole rows: columns that are
-- added later come along. So do tables of this schema that are added later, if they have a mission_id. Left out is what is
-- made anew (blocks of the search), of no meaning elsewhere (drafts, tickets) or the database's own (the audit, revocations).
-- Runs stand before the checklist: what is found in the runs about an item is found as it was.
create or replace function deck.carried() returns table (kind text, tab text, mission text, within text, sort text) language sql stable
set search_path = pg_catalog, pg_temp as $$
  with known (n, kind, tab, mission, within, sort) as (values
    (1, 'missions', 'public.missions', 'r.id', 'r.id = %L', 'r.number, r.id'),
    (2, 'inboxes', 'deck.inboxes', null, 'exists (select from public.chat_messages c where c.mission_id = %L and c.citizen = r.citizen)',
       'r.citizen collate "C"'),
    (3, 'test_runs', 'public.test_runs', 'r.mission_id', 'r.mission_id = %L', 'r.mission_id, r.created_at, r.id'),
    (4, 'dod_items', 'public.dod_items', 'r.mission_id', 'r.mission_id = %L', 'r.mission_id, r.ordinal, r.id'),
    (5, 'heads', 'deck.heads', 'substr(r.topic, 10, 36)::uuid', 'r.topic >= ''missions/'' || %1$L and r.topic < ''missions/'' || %1$L || ''0''', 'r.topic'),
    -- Chat by chat: see log/export.
    (6, 'chat_messages', 'public.chat_messages', 'r.mission_id', 'r.mission_id = %L', 'r.seq, r.id'),
    (7, 'events', 'deck.events', 'substr(r.topic, 10, 36)::uuid', 'r.topic >= ''missions/'' || %1$L and r.topic < ''missions/'' || %1$L || ''0''', 'r.topic, r.seq'),
    (8, 'open_logs', 'deck.open_logs', '(select t.mission_id from public.test_runs t where t.id = r.run_id)',
       'exists (select from public.test_runs t where t.id = r.run_id and t.mission_id = %L)', 'r.run_id'),
    (9, 'inbox_chats', 'deck.inbox_chats', 'r.mission_id', 'r.mission_id = %L', 'r.mission_id, r.citizen collate "C"'),
    (10, 'tasks', 'deck.tasks', 'r.mission_id', 'r.mission_id = %L', 'r.mission_id, r.id'),
    (11, 'cleared_keys', 'deck.cleared_keys', 'r.mission_id', 'r.mission_id = %L',
       'r.mission_id, r.citizen collate "C", r.author collate "C", r.key collate "C"'),
    (13, 'unproven', 'deck.unproven', '(select d.mission_id from public.dod_items d where d.id = r.item)',
       'exists (select from public.dod_items d where d.id = r.item and d.mission_id = %L)', 'r.item'),
    (12, 'reads', 'deck.reads', 'r.mission_id', 'r.mission_id = %L', 'r.mission_id, r.citizen collate "C", r.sub collate "C"')
  )
  select kind, tab, mission, within, sort from (
    select * from known where to_regclass(tab) is not null
    union all
    select 14, c.relname::text, format('deck.%I', c.relname), 'r.mission_id', 'r.mission_id = %L', 'r.mission_id, to_jsonb(r)::text collate "C"'
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attname = 'mission_id' and not a.attisdropped
    where c.relnamespace = 'deck'::regnamespace and c.relkind = 'r' and c.relpersistence = 'p'
      and c.relname not in (select kind from known) and c.relname not in ('audit', 'search_blocks', 'search_stale')
  ) x
  order by n, kind
$$;

-- A run's log as its events have it, up to one of them: what test_runs.logs holds once it was folded, and the file not twice.
create or replace function deck.folded_log(mission uuid, run uuid, upto bigint) returns text language sql stable
set search_path = pg_catalog, pg_temp as $$
  select string_agg(e.data ->> 'chunk', '' order by e.seq)
  from deck.events e
  where e.topic = 'missions/' || mission || '/tests/' || run || '/logs' and e.seq <= upto
    and e.seq >= coalesce((
      select max(r.seq) from deck.events r
      where r.topic = 'missions/' || mission || '/tests/' || run || '/logs' and r.seq <= upto and r.event = 'log.replaced'), 0)
$$;

-- Up to which of its events test_runs.logs holds a run's log; null if it holds anything else.
create or replace function deck.folded_upto(r public.test_runs) returns bigint language sql stable
set search_path = pg_catalog, pg_temp as $$
  select case
    when r.logs is null then null
    when r.logs_upto > 0 and r.logs = deck.folded_log(r.mission_id, r.id, r.logs_upto) then r.logs_upto
    when r.logs = deck.folded_log(r.mission_id, r.id, e.seq) then e.seq
  end
  from (select max(seq) as seq from deck.events where topic = 'missions/' || r.mission_id || '/tests/' || r.id || '/logs') e
$$;

-- Putting back --------------------------------------------------------------------------------------------------------

alter table deck.audit drop constraint audit_action_check;
alter table deck.audit add constraint audit_action_check check (action ~ '^[a-z_]+(\.[a-z_]+)?$');

-- An item that was completed before there was a time for it keeps that, too.
create or replace trigger give_completed_at before insert or update on dod_items
  for each row when (coalesce(new.completed, false) <> (new.completed_at is not null)
    and not (current_setting('deck.numbering', true) is not distinct from 'on' and has_table_privilege('deck.heads'::regclass, 'update')))
  execute function deck.give_completed_at();

-- Makes room for a mission: it is not there, and nothing but what a deleted one of its id has left behind. What waits for its
-- number is made to take another one: the sequence is lifted first, which no rollback takes back.
create or replace function deck.make_room(mission uuid, number integer) returns void language plpgsql
set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare k record;
begin
  if exists (select from public.missions m where m.id = mission) then
    raise exception using errcode = 'DK101', message = format('mission #%s (%s) is there already', number, mission);
  end if;
  if exists (select from public.missions m where m.number = make_room.number) then
    raise exception using errcode = 'DK101', message = format('another mission has the number %s', number);
  end if;
  if number < 1000000000 and number >= (select last_value from deck.mission_number) then
    perform setval('deck.mission_number', number);
  end if;
  perform from (
    select from deck.heads h where h.topic >= 'missions/' || mission and h.topic < 'missions/' || mission || '0'
    order by h.topic for update) locked;
  for k in select * from deck.carried() c where c.tab like 'deck.%' and c.mission is not null loop
    execute 'delete from ' || k.tab || ' r where ' || format(k.within, mission);
  end loop;
  delete from deck.search_blocks b where b.mission_id = mission;
  delete from deck.search_stale s where s.mission_id = mission;
end $$;

-- The one function by which seqs are given that numbering did not find. Rows of one kind, each as JSON text, in the order of
-- deck.carried(); all of a file in one transaction, ended by deck.restored(). Missions come first, and whatever follows has to be
-- of one that this transaction has made: so there is nothing else in their topics, and nobody yet who could write to them.
-- Constraints refuse what they always refuse. What a trigger gives to a new row (who said so, and when) is set right. A row that would not be stored as it is given is refused, too.
-- Its caller owns the tables; no other role may.
create or replace function deck.restore(kind text, lines text[]) returns void language plpgsql
-- (The lines are joined with what was made of them: not by nested loops, which our sessions prefer.)
set search_path = pg_catalog, pg_temp set enable_hashjoin = on set enable_nestloop = on as $$
#variable_conflict use_variable
declare
  k record;
  columns text;
  unknown text;
  foreign_rows bigint;
  altered bigint;
  r record;
begin
  perform set_config('deck.numbering', 'on', true);
  if kind = 'folded_logs' then
    update public.test_runs t set logs = deck.folded_log(t.mission_id, t.id, (l::jsonb ->> 'upto')::bigint)
    from public.missions m, unnest(lines) l
    where t.id = (l::jsonb ->> 'id')::uuid and m.id = t.mission_id and m.xmin = pg_current_xact_id()::xid;
    get diagnostics altered = row_count;
    if altered <> cardinality(lines) then
      raise exception using errcode = 'DK102', message = 'a log without its run';
    end if;
    delete from deck.pending where xid = pg_current_xact_id_if_assigned();
    perform set_config('deck.numbering', 'off', true);
    return;
  elsif kind = 'numbers' then
    perform setval('deck.mission_number', n.last)
    from (select max((l::jsonb ->> 'last')::integer) as last from unnest(lines) l) n, deck.mission_number q
    where n.last > q.last_value - case when q.is_called then 0 else 1 end;
    perform set_config('deck.numbering', 'off', true);
    return;
  end if;
  select * into k from deck.carried() c where c.kind = restore.kind;
  if not found then
    raise exception using errcode = 'DK102', message = format('nothing is known here of %s: the file is of a newer version', kind);
  end if;
  if kind = 'missions' then
    for r in select (l::jsonb ->> 'id')::uuid as id, (l::jsonb ->> 'number')::integer as number from unnest(lines) l loop
      perform deck.make_room(r.id, r.number);
    end loop;
  elsif kind = 'inboxes' then
    -- What other missions' chats hold by now is no task, as with any first request for work. (None of these missions' is there yet.)
    for r in select l::jsonb ->> 'citizen' as citizen, (l::jsonb ->> 'since')::timestamptz as since from unnest(lines) l loop
      if not exists (select from deck.inboxes i where i.citizen = r.citizen) then
        perform deck.open_inbox(r.citizen);
        update deck.inboxes i set since = r.since where i.citizen = r.citizen;
      end if;
    end loop;
    perform set_config('deck.restored_inboxes', (array(
      select l::jsonb ->> 'citizen' from unnest(lines) l union all
      select c from unnest(coalesce(nullif(current_setting('deck.restored_inboxes', true), ''), '{}')::text[]) c))::text, true);
    perform set_config('deck.numbering', 'off', true);
    return;
  end if;

  -- The columns are those of the first row; what a newer database has besides gets its default.
  select string_agg(format('%I', c.key), ', ' order by c.key), min(c.key) filter (where a.attname is null) into columns, unknown
  from jsonb_object_keys(lines[1]::jsonb) c (key)
  left join pg_attribute a on a.attrelid = k.tab::regclass and a.attname = c.key and a.attnum > 0 and not a.attisdropped;
  if unknown is not null then
    raise exception using errcode = 'DK102', message = format('%s has no %s here: the file is of a newer version', kind, unknown);
  end if;
  execute format($q$
    with
      given as materialized (select l::jsonb as line, n from unnest($1) with ordinality as l (l, n)),
      made as (
        insert into %1$s as r (%2$s) overriding system value
        select %2$s from (select p.* from given g cross join lateral jsonb_populate_record(null::%1$s, g.line) p order by g.n) x
        returning to_jsonb(r) as row, %3$s as mission),
      nth as (select m.*, row_number() over () as n from made m)
    select count(*) filter (where s.id is null), count(*) filter (where nth.row <> g.line and (nth.row || g.line) <> nth.row)
    from nth join given g using (n)
    left join lateral (
      select m.id from public.missions m
      where m.id = nth.mission and ($2 or m.xmin = pg_current_xact_id()::xid) limit 1) s on not $2
    $q$, k.tab, columns, k.mission) using lines, kind = 'missions' into foreign_rows, altered;
  if altered > 0 and kind in ('test_runs', 'dod_items') then
    execute format($q$
      update %1$s r set (%2$s) = (select %2$s from jsonb_populate_record(null::%1$s, g.line) p)
      from (select l::jsonb as line from unnest($1) l) g
      where r.id = (g.line ->> 'id')::uuid and (to_jsonb(r) || g.line) <> to_jsonb(r)
      $q$, k.tab, columns) using lines;
    execute format($q$
      select count(*) from (select l::jsonb as line from unnest($1) l) g
      join %1$s r on r.id = (g.line ->> 'id')::uuid where (to_jsonb(r) || g.line) <> to_jsonb(r)
      $q$, k.tab) using lines into altered;
  end if;
  if kind <> 'missions' and foreign_rows > 0 then
    raise exception using errcode = 'DK102', message = format('a row of %s belongs to no mission of the file', kind);
  end if;
  if altered > 0 then
    raise exception using errcode = 'DK102', message = format('a row of %s would not be stored as it is', kind);
  end if;
  -- What the tables' triggers noted is no change: it has its events.
  delete from deck.pending where xid = pg_current_xact_id_if_assigned();
  perform set_config('deck.numbering', 'off', true);
end $$;

-- Ends it: whoever followed these topics in a former life, or in another database, has to read again.
create or replace function deck.restored(missions uuid[], by text) returns void language plpgsql
set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare last bigint;
begin
  -- Of whom the file knows no inbox, but this database does: what was said before is no task for him.
  insert into deck.inbox_chats (citizen, mission_id, upto)
  select substr(h.topic, 52), substr(h.topic, 10, 36)::uuid, c.seq
  from unnest(missions) m
  cross join lateral (
    select topic from deck.heads where topic >= 'missions/' || m || '/chat/' and topic < 'missions/' || m || '/chat0' offset 0) h
  cross join lateral (
    select seq from public.chat_messages
    where mission_id = m and citizen = substr(h.topic, 52) and seq is not null order by seq desc limit 1) c
  where exists (select from deck.inboxes i where i.citizen = substr(h.topic, 52))
    and substr(h.topic, 52) <> all (coalesce(nullif(current_setting('deck.restored_inboxes', true), ''), '{}')::text[])
  on conflict do nothing;
  -- Items that are added later come last.
  select max(d.ordinal) into last
  from unnest(missions) m cross join lateral (
    select ordinal from public.dod_items where mission_id = m order by ordinal desc limit 1) d;
  perform setval(s::regclass, last)
  from pg_get_serial_sequence('public.dod_items', 'ordinal') s
  where last > coalesce((select q.last_value from pg_sequences q where format('%I.%I', q.schemaname, q.sequencename) = s), 0);
  update deck.epoch_salt set salt = gen_random_uuid()::text;
  insert into deck.audit (action, actor, mission_id, detail)
  select 'mission.import', by, m.id, jsonb_build_object('number', m.number, 'title', m.title)
  from public.missions m where m.id = any (missions);
end $$;
