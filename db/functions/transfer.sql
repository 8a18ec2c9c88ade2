-- Import and export. Messages of other programs are imported in batches and get new seqs. Exported missions are restored with their
-- original ids, seqs and times; only deck.restore() can do this.

-- Saves a batch of messages with given times, in the caller's transaction.
--
-- p_topics: the chats, sorted and distinct. p_chats: each entry's index in p_topics, from 1.
-- entries:  one array per column; an array of nulls may be null. A null time means now.
--
-- others:   [{ n, why }] for entries that were not saved, n from 1; null if all were saved. why is one of:
--           'seen' (the id is in this chat, or the key was used before), 'cleared' (the key belonged to a message that was removed by clearing
--           the chat less than 24 hours ago), 'taken' (the id is in another chat), 'gone' (the mission does not exist).
--           With p_strict any outcome but 'seen' raises DK103, and nothing is saved.
--
-- Imported messages do not become tasks: a chat's questions that have no task yet get one first, then its place moves behind the imported
-- messages. p_replies: the message that each entry answers. It is stored as given. p_details: what each entry's writer did and used, as
-- JSON text.
--
-- Locks: the chats' places in inboxes, the missions (for key share), then the heads in order (the lock order is in numbering.sql).
drop function if exists deck.import_messages(
  text[], integer[], uuid[], text[], text[], text[], text[], text[], timestamp[], boolean);
drop function if exists deck.import_messages(
  text[], integer[], uuid[], text[], text[], text[], text[], text[], timestamp[], boolean, uuid[]);
create or replace function deck.import_messages(
  p_topics text[], p_chats integer[], p_ids uuid[], p_senders text[], p_authors text[], p_messages text[], p_blocks text[], p_keys text[],
  p_times timestamp[], p_strict boolean, p_replies uuid[] default null, p_details text[] default null, out others json)
language plpgsql
-- A session caches its plans. Tables are read by lateral subqueries with a limit, which Postgres never turns into joins (append.sql).
set search_path = pg_catalog, public, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = on as $$
declare
  v_now timestamp;
  v_bad record;
  v_missing boolean;
begin
  -- No inbox is opened meanwhile, and no message of these chats becomes a task.
  perform pg_advisory_xact_lock_shared(hashtextextended('inbox ' || c.citizen, 0))
  from (select distinct deck.topic_citizen(t) collate "default" as citizen from unnest(p_topics) t order by 1) c;
  insert into deck.inbox_chats (citizen, mission_id, upto)
  select i.citizen, m.id, 0
  from unnest(p_topics) t
  cross join lateral (select x.id from public.missions x where x.id = deck.topic_mission(t) limit 1) m
  cross join lateral (select x.citizen from deck.inboxes x where x.citizen = deck.topic_citizen(t) collate "default" limit 1) i
  order by 1, 2
  on conflict do nothing;
  perform from (
    select from deck.inbox_chats k
    where (k.citizen, k.mission_id) in (select deck.topic_citizen(t) collate "default", deck.topic_mission(t) from unnest(p_topics) t)
    order by k.citizen, k.mission_id for update) locked;
  perform from (
    select from public.missions m
    where m.id = any (array(select deck.topic_mission(t) from unnest(p_topics) t)) order by m.id for key share) locked;
  insert into deck.heads (topic)
  select t from unnest(p_topics) t
  where exists (select from public.missions m where m.id = deck.topic_mission(t)) order by t collate "C"
  on conflict do nothing;
  perform from (select from deck.heads h where h.topic = any (p_topics) order by h.topic for update) locked;

  perform deck.mark();
  -- The statements from here on start after the locks were taken. So they see all rows that the locks' previous holders committed.
  v_now := deck.now();
  insert into deck.tasks (id, citizen, mission_id, seq, at, since)
  select u.id, c.citizen, c.mission_id, u.seq, c.at, u.since
  from unnest(p_topics) t
  cross join lateral deck.untaken(deck.topic_mission(t), deck.topic_citizen(t), 9223372036854775807, null) u
  cross join lateral (select x.citizen, x.mission_id, x.at from public.chat_messages x where x.id = u.id limit 1) c
  where u.seq > coalesce((select k.upto from deck.imported_chats k where k.citizen = c.citizen and k.mission_id = c.mission_id), 0)
  order by u.id
  on conflict do nothing;
  perform set_config('deck.numbering', pg_trigger_depth()::text, true);
  with
    place as materialized (
      select t.n, t.topic, deck.topic_citizen(t.topic) as citizen, m.id as mission, greatest(h.floor, c.seq, e.seq) as head,
        greatest(v_now, c.at, e.at) as at
      from unnest(p_topics) with ordinality as t (topic, n)
      left join lateral (select m.id from public.missions m where m.id = deck.topic_mission(t.topic) limit 1) m on true
      left join lateral (select h.floor from deck.heads h where h.topic = t.topic and m.id is not null limit 1) h on true
      left join lateral (
        select c.seq, c.at from public.chat_messages c
        where c.mission_id = m.id and c.citizen = deck.topic_citizen(t.topic) and c.seq is not null
        order by c.seq desc limit 1) c on true
      left join lateral (
        select e.seq, e.at from deck.events e where e.topic = t.topic and m.id is not null order by e.seq desc limit 1) e on true
    ),
    entry as materialized (
      select e.n, e.chat, e.id, e.sender, e.author, e.message, e.blocks, e.key, e.time, e.reply, e.details, p.mission, p.citizen, p.head,
        p.at,
        case
          when p.head is null then 'gone'
          when k.mission_id = p.mission and k.citizen = p.citizen then 'seen'
          when k.mission_id is not null then 'taken'
          when s.id is not null then 'seen'
          when c.key is not null then 'cleared'
        end as why
      from rows from (unnest(p_chats), unnest(p_ids), unnest(p_senders), unnest(p_authors), unnest(p_messages), unnest(p_blocks),
          unnest(p_keys), unnest(p_times), unnest(p_replies), unnest(p_details))
        with ordinality as e (chat, id, sender, author, message, blocks, key, time, reply, details, n)
      join place p on p.n = e.chat
      left join lateral (select x.mission_id, x.citizen from public.chat_messages x where x.id = e.id limit 1) k on true
      left join lateral (
        select x.id from public.chat_messages x
        where deck.key_name(x.mission_id, x.citizen, x.author, x.key) = deck.key_name(p.mission, p.citizen, e.author, e.key)
          and x.key is not null and x.seq is not null limit 1) s on e.key is not null
      left join lateral (
        select x.key from deck.cleared_keys x
        where x.mission_id = p.mission and x.citizen = p.citizen and x.author = coalesce(e.author, '') and x.key = e.key
          and x.cleared_at > v_now - interval '24 hours' limit 1) c on e.key is not null
    ),
    inserted as (
      insert into public.chat_messages as i
        (id, mission_id, citizen, sender, author, message, code_blocks, key, in_reply_to, details, created_at, seq, at)
      select e.id, e.mission, e.citizen, e.sender, e.author, e.message, e.blocks::jsonb, e.key, e.reply, e.details::jsonb,
             coalesce(e.time, e.at), e.head + row_number() over (partition by e.chat order by e.n), e.at
      from entry e
      where e.why is null
      returning i.mission_id, i.citizen, i.seq
    ),
    told as (
      select deck.hint(array_agg(x.topic), array_agg(x.seq)) from (
        select 'missions/' || i.mission_id || '/chat/' || i.citizen as topic, max(i.seq) as seq
        from inserted i group by i.mission_id, i.citizen) x
    )
  select (select json_agg(json_build_object('n', e.n, 'why', e.why)) from entry e where e.why is not null),
    (select count(*) from inserted) < (select count(*) from entry e where e.why is null)
  into others, v_missing from told;
  perform set_config('deck.numbering', 'off', true);
  with last as materialized (
    select c.citizen, c.mission_id, c.seq, exists (select from deck.inboxes i where i.citizen = c.citizen) as open
    from unnest(p_topics) t
    cross join lateral (
      select x.mission_id, x.citizen, x.seq from public.chat_messages x
      where x.mission_id = deck.topic_mission(t) and x.citizen = deck.topic_citizen(t) collate "default" and x.seq is not null
      order by x.seq desc limit 1) c),
  moved as (
    update deck.inbox_chats k set upto = l.seq from last l
    where l.open and k.citizen = l.citizen and k.mission_id = l.mission_id and k.upto < l.seq)
  insert into deck.imported_chats (citizen, mission_id, upto)
  select l.citizen, l.mission_id, l.seq from last l where not l.open
  on conflict (citizen, mission_id) do update set upto = excluded.upto;
  if p_replies is not null then
    perform deck.record_answers(p_ids);
  end if;
  if v_missing then
    raise check_violation using message = 'a trigger of the database kept a message from being stored';
  end if;
  if p_strict and others is not null then
    select x.* into v_bad from json_to_recordset(others) as x (n integer, why text) where x.why <> 'seen' order by x.n limit 1;
    if found then
      raise exception using errcode = 'DK103', message = v_bad.why, detail = v_bad.n::text;
    end if;
  end if;
end $$;

-- Export ------------------------------------------------------------------------------------------------------------

-- Returns the tables of an exported mission, in the order in which they are written and restored. mission: an expression for the mission of
-- a row r. within: a condition that selects the rows of the mission %L. sort: an order that is the same in every database.
--
-- Whole rows are exported, so that columns of later versions are included. So are later tables of schema deck that have a mission_id. Not
-- exported: search blocks (they are rebuilt), drafts and tickets (useless elsewhere), the audit log and revocations (they belong to the
-- database).
--
-- Runs are restored before the checklist, so that the items' evidence is found again.
create or replace function deck.carried() returns table (kind text, tab text, mission text, within text, sort text) language sql stable
set search_path = pg_catalog, pg_temp as $$
  with known (n, kind, tab, mission, within, sort) as (values
    (1, 'missions', 'public.missions', 'r.id', 'r.id = %L', 'r.number, r.id'),
    (2, 'inboxes', 'deck.inboxes', null, 'exists (select from public.chat_messages c where c.mission_id = %L and c.citizen = r.citizen)',
       'r.citizen collate "C"'),
    (3, 'test_runs', 'public.test_runs', 'r.mission_id', 'r.mission_id = %L', 'r.mission_id, r.created_at, r.id'),
    (4, 'dod_items', 'public.dod_items', 'r.mission_id', 'r.mission_id = %L', 'r.mission_id, r.ordinal, r.id'),
    (5, 'heads', 'deck.heads', 'deck.topic_mission(r.topic)', 'r.topic >= ''missions/'' || %1$L and r.topic < ''missions/'' || %1$L || ''0''', 'r.topic'),
    -- Exported chat by chat: see src/database/transfer/export.
    (6, 'chat_messages', 'public.chat_messages', 'r.mission_id', 'r.mission_id = %L', 'r.seq, r.id'),
    (7, 'events', 'deck.events', 'deck.topic_mission(r.topic)', 'r.topic >= ''missions/'' || %1$L and r.topic < ''missions/'' || %1$L || ''0''', 'r.topic, r.seq'),
    (8, 'open_logs', 'deck.open_logs', '(select t.mission_id from public.test_runs t where t.id = r.run_id)',
       'exists (select from public.test_runs t where t.id = r.run_id and t.mission_id = %L)', 'r.run_id'),
    (9, 'inbox_chats', 'deck.inbox_chats', 'r.mission_id', 'r.mission_id = %L', 'r.mission_id, r.citizen collate "C"'),
    (10, 'tasks', 'deck.tasks', 'r.mission_id', 'r.mission_id = %L', 'r.mission_id, r.id'),
    (11, 'cleared_keys', 'deck.cleared_keys', 'r.mission_id', 'r.mission_id = %L',
       'r.mission_id, r.citizen collate "C", r.author collate "C", r.key collate "C"'),
    (12, 'reads', 'deck.reads', 'r.mission_id', 'r.mission_id = %L', 'r.mission_id, r.citizen collate "C", r.sub collate "C"'),
    (13, 'unproven', 'deck.unproven', '(select d.mission_id from public.dod_items d where d.id = r.item)',
       'exists (select from public.dod_items d where d.id = r.item and d.mission_id = %L)', 'r.item')
  )
  select x.kind, x.tab, x.mission, x.within, x.sort from (
    select k.* from known k where to_regclass(k.tab) is not null
    union all
    select 14, c.relname::text, format('deck.%I', c.relname), 'r.mission_id', 'r.mission_id = %L', 'r.mission_id, to_jsonb(r)::text collate "C"'
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attname = 'mission_id' and not a.attisdropped
    where c.relnamespace = 'deck'::regnamespace and c.relkind = 'r' and c.relpersistence = 'p'
      and c.relname not in (select k.kind from known k) and c.relname not in ('audit', 'imported_chats', 'search_blocks', 'search_parts', 'search_stale')
  ) x
  order by x.n, x.kind
$$;

-- Returns a run's log from its events, up to the event p_upto. An exported file uses it instead of an equal test_runs.logs, so that the log
-- is in the file only once.
create or replace function deck.folded_log(p_mission uuid, p_run uuid, p_upto bigint) returns text language sql stable
set search_path = pg_catalog, pg_temp as $$
  select string_agg(e.data ->> 'chunk', '' order by e.seq)
  from deck.events e
  where e.topic = 'missions/' || p_mission || '/tests/' || p_run || '/logs' and e.seq <= p_upto
    and e.seq >= coalesce((
      select max(r.seq) from deck.events r
      where r.topic = 'missions/' || p_mission || '/tests/' || p_run || '/logs' and r.seq <= p_upto and r.event = 'log.replaced'), 0)
$$;

-- Returns the seq of the log event up to which test_runs.logs equals the log; null if it differs.
create or replace function deck.folded_upto(p_run public.test_runs) returns bigint language sql stable
set search_path = pg_catalog, pg_temp as $$
  select case
    when p_run.logs is null then null
    when p_run.logs_upto > 0 and p_run.logs = deck.folded_log(p_run.mission_id, p_run.id, p_run.logs_upto) then p_run.logs_upto
    when p_run.logs = deck.folded_log(p_run.mission_id, p_run.id, e.seq) then e.seq
  end
  from (
    select max(l.seq) as seq from deck.events l
    where l.topic = 'missions/' || p_run.mission_id || '/tests/' || p_run.id || '/logs') e
$$;

-- Restore -------------------------------------------------------------------------------------------------------------

-- Prepares for restoring a mission. Raises DK101 if its id or number exists. Deletes what a deleted mission with the same id has left.
-- The sequence of mission numbers is advanced first, and a rollback does not revert this: a concurrent insert gets a different number.
create or replace function deck.make_room(p_mission uuid, p_number integer) returns void language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  v_kind record;
begin
  if exists (select from public.missions m where m.id = p_mission) then
    raise exception using errcode = 'DK101', message = format('mission #%s (%s) exists already', p_number, p_mission);
  end if;
  if exists (select from public.missions m where m.number = p_number) then
    raise exception using errcode = 'DK101', message = format('another mission has the number %s', p_number);
  end if;
  if p_number < 1000000000 and p_number >= (select s.last_value from deck.mission_number s) then
    perform setval('deck.mission_number', p_number);
  end if;
  perform from (
    select from deck.heads h where h.topic >= 'missions/' || p_mission and h.topic < 'missions/' || p_mission || '0'
    order by h.topic for update) locked;
  for v_kind in select c.* from deck.carried() c where c.tab like 'deck.%' and c.mission is not null loop
    execute 'delete from ' || v_kind.tab || ' r where ' || format(v_kind.within, p_mission);
  end loop;
  delete from deck.search_blocks b where b.mission_id = p_mission;
  delete from deck.search_stale s where s.mission_id = p_mission;
  delete from deck.search_parts s where s.mission_id = p_mission;
end $$;

-- Inserts rows of one kind with their original seqs. Each line is a row as JSON text. The kinds of a file are restored in the order of
-- deck.carried(), all in one transaction; deck.restored() is its last call.
--
-- Missions come first. Each later row must belong to a mission that this transaction has created. So the topics hold no other rows, and no
-- other transaction can write to them yet.
--
-- Constraints apply as usual. Columns that triggers set in new rows (actors and times) are corrected afterwards. A row that would still
-- be stored differently is refused. Only the owner of the tables may call this function.
create or replace function deck.restore(p_kind text, p_lines text[]) returns void language plpgsql
-- (The lines are joined with the inserted rows. Hash joins are enabled for this: the server's sessions disable them.)
set search_path = pg_catalog, public, pg_temp set enable_hashjoin = on set enable_nestloop = on as $$
declare
  v_kind    record;
  v_columns text;
  v_unknown text;
  v_foreign bigint;
  v_altered bigint;
  v_row     record;
begin
  perform set_config('deck.numbering', pg_trigger_depth()::text, true);
  if p_kind = 'folded_logs' then
    update public.test_runs t set logs = deck.folded_log(t.mission_id, t.id, (l::jsonb ->> 'upto')::bigint)
    from public.missions m, unnest(p_lines) l
    where t.id = (l::jsonb ->> 'id')::uuid and m.id = t.mission_id and m.xmin = pg_current_xact_id()::xid;
    get diagnostics v_altered = row_count;
    if v_altered <> cardinality(p_lines) then
      raise exception using errcode = 'DK102', message = 'a log belongs to no run of the file';
    end if;
    delete from deck.pending p where p.xid = pg_current_xact_id_if_assigned();
    perform set_config('deck.numbering', 'off', true);
    return;
  elsif p_kind = 'numbers' then
    perform setval('deck.mission_number', n.last)
    from (select max((l::jsonb ->> 'last')::integer) as last from unnest(p_lines) l) n, deck.mission_number q
    where n.last > q.last_value - case when q.is_called then 0 else 1 end;
    perform set_config('deck.numbering', 'off', true);
    return;
  end if;
  select c.* into v_kind from deck.carried() c where c.kind = p_kind;
  if not found then
    raise exception using errcode = 'DK102', message = format('unknown kind of row %s: the file is of a newer version', p_kind);
  end if;
  if p_kind = 'missions' then
    for v_row in select (l::jsonb ->> 'id')::uuid as id, (l::jsonb ->> 'number')::integer as number from unnest(p_lines) l loop
      perform deck.make_room(v_row.id, v_row.number);
    end loop;
  elsif p_kind = 'inboxes' then
    -- Existing messages of other missions do not become tasks, as with any first request for work. (The file's chats are still empty.)
    -- Its first tasks are found before it gets the age that it has in the file.
    for v_row in
      select l::jsonb ->> 'citizen' as citizen, (l::jsonb ->> 'since')::timestamptz as since, (l::jsonb ->> 'seen')::timestamptz as seen
      from unnest(p_lines) l
    loop
      if not exists (select from deck.inboxes i where i.citizen = v_row.citizen) then
        perform deck.open_inbox(v_row.citizen);
        perform deck.find_tasks(v_row.citizen, null, 2147483647);
        update deck.inboxes i set since = v_row.since, seen = v_row.seen where i.citizen = v_row.citizen;
      end if;
    end loop;
    perform set_config('deck.restored_inboxes', (array(
      select l::jsonb ->> 'citizen' from unnest(p_lines) l union all
      select c from unnest(coalesce(nullif(current_setting('deck.restored_inboxes', true), ''), '{}')::text[]) c))::text, true);
    perform set_config('deck.numbering', 'off', true);
    return;
  end if;

  -- The first row names the columns. Columns of this database that are missing there get their defaults.
  select string_agg(format('%I', c.key), ', ' order by c.key), min(c.key) filter (where a.attname is null) into v_columns, v_unknown
  from jsonb_object_keys(p_lines[1]::jsonb) c (key)
  left join pg_attribute a on a.attrelid = v_kind.tab::regclass and a.attname = c.key and a.attnum > 0 and not a.attisdropped;
  if v_unknown is not null then
    raise exception using errcode = 'DK102', message = format('%s has no column %s: the file is of a newer version', p_kind, v_unknown);
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
    $q$, v_kind.tab, v_columns, v_kind.mission) using p_lines, p_kind = 'missions' into v_foreign, v_altered;
  if v_altered > 0 and p_kind in ('test_runs', 'dod_items') then
    execute format($q$
      update %1$s r set (%2$s) = (select %2$s from jsonb_populate_record(null::%1$s, g.line) p)
      from (select l::jsonb as line from unnest($1) l) g
      where r.id = (g.line ->> 'id')::uuid and (to_jsonb(r) || g.line) <> to_jsonb(r)
      $q$, v_kind.tab, v_columns) using p_lines;
    execute format($q$
      select count(*) from (select l::jsonb as line from unnest($1) l) g
      join %1$s r on r.id = (g.line ->> 'id')::uuid where (to_jsonb(r) || g.line) <> to_jsonb(r)
      $q$, v_kind.tab) using p_lines into v_altered;
  end if;
  if p_kind <> 'missions' and v_foreign > 0 then
    raise exception using errcode = 'DK102', message = format('a row of %s belongs to no mission of the file', p_kind);
  end if;
  if v_altered > 0 then
    raise exception using errcode = 'DK102', message = format('a row of %s would be stored with different values', p_kind);
  end if;
  -- Removes the changes that the tables' triggers have recorded: the file contains the events.
  delete from deck.pending p where p.xid = pg_current_xact_id_if_assigned();
  perform set_config('deck.numbering', 'off', true);
end $$;

-- Ends a restore. The new salt changes the epoch: clients that followed these topics before, here or in a different database, must read them
-- again.
create or replace function deck.restored(p_missions uuid[], p_by text) returns void language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  v_last bigint;
begin
  -- Restored messages do not become tasks, unless their citizen's inbox is in the file.
  insert into deck.imported_chats (citizen, mission_id, upto)
  select deck.topic_citizen(h.topic), deck.topic_mission(h.topic), c.seq
  from unnest(p_missions) m
  cross join lateral (
    select x.topic from deck.heads x where x.topic >= 'missions/' || m || '/chat/' and x.topic < 'missions/' || m || '/chat0' offset 0) h
  cross join lateral (
    select x.seq from public.chat_messages x
    where x.mission_id = m and x.citizen = deck.topic_citizen(h.topic) and x.seq is not null order by x.seq desc limit 1) c
  where deck.topic_citizen(h.topic) <> all (coalesce(nullif(current_setting('deck.restored_inboxes', true), ''), '{}')::text[])
  on conflict (citizen, mission_id) do update set upto = excluded.upto;
  insert into deck.inbox_chats (citizen, mission_id, upto)
  select r.citizen, r.mission_id, r.upto
  from deck.imported_chats r join deck.inboxes i on i.citizen = r.citizen
  where r.mission_id = any (p_missions)
  on conflict do nothing;
  -- Items that are added later get greater ordinals.
  select max(d.ordinal) into v_last
  from unnest(p_missions) m cross join lateral (
    select x.ordinal from public.dod_items x where x.mission_id = m order by x.ordinal desc limit 1) d;
  perform setval(s::regclass, v_last)
  from pg_get_serial_sequence('public.dod_items', 'ordinal') s
  where v_last > coalesce((select q.last_value from pg_sequences q where format('%I.%I', q.schemaname, q.sequencename) = s), 0);
  update deck.epoch_salt set salt = gen_random_uuid()::text;
  insert into deck.audit (action, actor, mission_id, detail)
  select 'mission.import', p_by, m.id, jsonb_build_object('number', m.number, 'title', m.title)
  from public.missions m where m.id = any (p_missions);
end $$;
