-- Numbering: any program that writes to the four tables gets its seqs when its transaction commits.
--
-- Statement triggers note what changed in deck.pending; one deferred trigger on deck.pending numbers all of it at commit.
-- So a transaction left open holds no topic, and one that rolls back leaves no hole.
--
-- Lock order, everywhere: rows first (a mission's key share before its parts), then all heads of the transaction in one
-- pass sorted by topic, once, last. After a head lock there is nothing that can wait. Functions run as their owner, so that
-- a writer needs grants on the four tables only.

-- "Topic T is at least at n": a hint, never the message itself. 70 lines keep a payload under 8,000 bytes.
create or replace function deck.hint(topics text[], seqs bigint[]) returns void language sql
set search_path = pg_catalog, pg_temp as $$
  select pg_notify('deck', string_agg(seq || ' ' || topic, E'\n'))
  from unnest(topics, seqs) with ordinality as t (topic, seq, n)
  group by n / 70
$$;

-- What this transaction has changed and not yet numbered, in order. Re-checked, not remembered: a message that is gone
-- again and parts of a mission that is gone do not count. 'floor' is no event: its data is the greatest seq of a topic's
-- rows that this transaction removed.
create or replace view deck.change as
  select p.id as stmt, r.ord, 'missions/' || c.mission_id || '/chat/' || c.citizen as topic,
         c.mission_id, c.id as row_id, null::text as event, null::jsonb as data
  from deck.pending p
  cross join lateral unnest(p.messages) with ordinality as r (id, ord)
  join public.chat_messages c on c.id = r.id and c.seq is null
  where p.xid = pg_current_xact_id_if_assigned() and p.messages is not null
  union all
  select p.id, 1, p.topic, p.mission_id, p.row_id, p.event, p.data
  from deck.pending p
  where p.xid = pg_current_xact_id_if_assigned() and p.messages is null
    and (p.event in ('mission.deleted', 'floor') or exists (select from public.missions m where m.id = p.mission_id));

-- Gives the seqs, under the heads' locks.
create or replace function deck.give_seqs() returns void language plpgsql
-- Its plans are kept for a session: one made while a table was small must not read all of it once it is large. What is
-- left are nested loops over indexes.
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  moment constant timestamp := clock_timestamp() at time zone 'utc';
  hint_topics text[];
  hint_seqs   bigint[];
begin
  update deck.heads h set floor = f.floor
  from (select topic, max(data::bigint) as floor from deck.change where event = 'floor' group by topic) f
  where h.topic = f.topic and h.floor < f.floor;

  if exists (
    select from deck.change x
    join public.chat_messages c on c.id = x.row_id
    join deck.cleared_keys k on k.mission_id = c.mission_id and k.citizen = c.citizen
                            and k.author = coalesce(c.author, '') and k.key = c.key
    where x.event is null and k.cleared_at > moment - interval '24 hours'
  ) then
    raise unique_violation using message = 'this key was used before the chat was cleared', constraint = 'chat_messages_key';
  end if;
  -- Before the index sees it: that would wait, with the heads locked, for a transaction that has removed the key's message
  -- and is still open.
  if exists (
    select from deck.change x
    join public.chat_messages c on c.id = x.row_id
    join public.chat_messages s on deck.key_name(s.mission_id, s.citizen, s.author, s.key)
                                 = deck.key_name(c.mission_id, c.citizen, c.author, c.key)
    where x.event is null and s.key is not null and s.seq is not null
  ) then
    raise unique_violation using message = 'this key was used before', constraint = 'chat_messages_key';
  end if;

  perform set_config('deck.numbering', 'on', true);
  with
    change as materialized (
      select c.*, row_number() over (partition by c.topic order by c.stmt, c.ord) as nth
      from deck.change c where c.event is distinct from 'floor'
    ),
    -- Where the topic stands is looked up for the first of its changes, and handed to the others.
    x as materialized (
      select c.topic, c.row_id, c.event, c.data,
        max(h.seq) over (partition by c.topic) + c.nth as seq, max(h.at) over (partition by c.topic) as at
      from change c
      left join lateral (
        select greatest(h.floor, m.seq, e.seq) as seq, greatest(moment, m.at, e.at) as at
        from deck.heads h
        left join lateral (
          select seq, at from public.chat_messages
          where substr(c.topic, 46, 6) = '/chat/' and mission_id = c.mission_id and citizen = substr(c.topic, 52) and seq is not null
          order by seq desc limit 1) m on true
        left join lateral (select seq, at from deck.events where topic = c.topic order by seq desc limit 1) e on true
        where h.topic = c.topic
        limit 1
      ) h on c.nth = 1
    ),
    messages as (
      update public.chat_messages c set seq = x.seq, at = x.at from x where x.event is null and c.id = x.row_id
    ),
    latest as (
      select row_id, split_part(event, '.', 1) as kind, max(seq) as seq
      from x where event is not null and split_part(event, '.', 1) in ('mission', 'dod_item', 'test_run') group by 1, 2
    ),
    missions as (update public.missions  t set seq = l.seq from latest l where l.kind = 'mission'  and t.id = l.row_id),
    dods     as (update public.dod_items t set seq = l.seq from latest l where l.kind = 'dod_item' and t.id = l.row_id),
    runs     as (update public.test_runs t set seq = l.seq from latest l where l.kind = 'test_run' and t.id = l.row_id),
    events as (
      insert into deck.events (topic, seq, event, data, at)
      select topic, seq, event, data || jsonb_build_object('seq', seq), at from x where event is not null
    )
  select array_agg(topic), array_agg(seq) into hint_topics, hint_seqs
  from (select topic, max(seq) as seq from x group by topic) y;
  perform set_config('deck.numbering', 'off', true);

  delete from deck.pending where xid = pg_current_xact_id();
  perform deck.hint(hint_topics, hint_seqs);
end $$;

create or replace function deck.number() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  violated text;
begin
  -- It fires once for each noted statement; the first firing does the work of all.
  if not exists (select from deck.pending where id = new.id) then
    return null;
  end if;

  -- Missing heads first, then the locks: whoever waits in the first pass holds only heads that nobody else can see yet.
  insert into deck.heads (topic) select topic from deck.change group by topic order by topic collate "C" on conflict do nothing;
  perform from (
    select from deck.heads where topic = any (array(select topic from deck.change)) order by topic for update) locked;

  -- The heads are ours: what other transactions committed to these topics can be seen from here on. Not so in a snapshot
  -- that is older than the locks: there a seq may be given for the second time, which is a serialization failure.
  if current_setting('transaction_isolation') = 'read committed' then
    perform deck.give_seqs();
  else
    begin
      perform deck.give_seqs();
    exception when unique_violation then
      get stacked diagnostics violated = constraint_name;
      if violated in ('chat_messages_topic_seq', 'events_pkey') then
        raise serialization_failure using message = 'could not serialize: the topic went on since this transaction began';
      end if;
      raise;
    end;
  end if;
  return null;
end $$;

do $$
begin
  if not exists (select from pg_trigger where tgrelid = 'deck.pending'::regclass and tgname = 'number') then
    create constraint trigger number after insert on deck.pending
      deferrable initially deferred for each row execute function deck.number();
  end if;
end $$;

-- What a statement changed ----------------------------------------------------------------------------------------

create or replace function deck.note_messages() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  insert into deck.pending (messages)
  select array_agg(id order by n)
  from (select id, row_number() over () as n from new_rows where seq is null) x
  group by n / 10000
  order by n / 10000;
  return null;
end $$;

-- Messages that SQL removes are no event, but their seqs are not given again.
create or replace function deck.note_removed_messages() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  insert into deck.pending (topic, mission_id, event, data)
  select 'missions/' || mission_id || '/chat/' || citizen, mission_id, 'floor', to_jsonb(max(seq))
  from old_rows where seq is not null
  group by mission_id, citizen;
  return null;
end $$;

create or replace function deck.note_missions() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'UPDATE' then
    insert into deck.pending (topic, mission_id, row_id, event, data)
    select 'missions/' || n.id, n.id, n.id, 'mission.updated', deck.mission_json(n::public.missions)
    from new_rows n join old_rows o using (id)
    where deck.mission_json(n::public.missions) <> deck.mission_json(o::public.missions);
  else
    -- The parts are gone by now (and with them whatever could still add to their topics); their events go here.
    with gone as (
      delete from deck.events e using old_rows o
      where e.topic > 'missions/' || o.id || '/' and e.topic < 'missions/' || o.id || '0'
      returning e.topic, e.seq, o.id
    )
    insert into deck.pending (topic, mission_id, event, data)
    select topic, id, 'floor', to_jsonb(max(seq)) from gone group by topic, id;
    insert into deck.pending (topic, mission_id, row_id, event, data)
    select 'missions/' || o.id, o.id, o.id, 'mission.deleted', deck.mission_json(o::public.missions) from old_rows o;
  end if;
  return null;
end $$;

create or replace function deck.note_dod_items() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'INSERT' then
    insert into deck.pending (topic, mission_id, row_id, event, data)
    select 'missions/' || n.mission_id || '/dod', n.mission_id, n.id, 'dod_item.created', deck.dod_item_json(n::public.dod_items)
    from new_rows n;
  elsif tg_op = 'UPDATE' then
    insert into deck.pending (topic, mission_id, row_id, event, data)
    select 'missions/' || n.mission_id || '/dod', n.mission_id, n.id, 'dod_item.updated', deck.dod_item_json(n::public.dod_items)
    from new_rows n join old_rows o using (id)
    where deck.dod_item_json(n::public.dod_items) <> deck.dod_item_json(o::public.dod_items)
    order by n.ordinal;
  else
    -- Not for items that go with their mission.
    insert into deck.pending (topic, mission_id, row_id, event, data)
    select 'missions/' || o.mission_id || '/dod', o.mission_id, o.id, 'dod_item.deleted', deck.dod_item_json(o::public.dod_items)
    from old_rows o
    where exists (select from public.missions m where m.id = o.mission_id)
    order by o.ordinal;
  end if;
  return null;
end $$;

create or replace function deck.note_test_runs() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'INSERT' then
    insert into deck.pending (topic, mission_id, row_id, event, data)
    select 'missions/' || n.mission_id || '/tests', n.mission_id, n.id, 'test_run.created', deck.test_run_json(n::public.test_runs)
    from new_rows n;
  else
    insert into deck.pending (topic, mission_id, row_id, event, data)
    select 'missions/' || n.mission_id || '/tests', n.mission_id, n.id, 'test_run.updated', deck.test_run_json(n::public.test_runs)
    from new_rows n join old_rows o using (id)
    where deck.test_run_json(n::public.test_runs) <> deck.test_run_json(o::public.test_runs);
  end if;
  return null;
end $$;

-- Row by row, since only a trigger with a column list leaves alone the updates that don't name the logs.
create or replace function deck.note_logs() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  before text := case when tg_op = 'UPDATE' then coalesce(old.logs, '') else '' end;
  after  text := coalesce(new.logs, '');
begin
  if after = before then
    return null;
  end if;
  insert into deck.pending (topic, mission_id, row_id, event, data)
  select 'missions/' || new.mission_id || '/tests/' || new.id || '/logs', new.mission_id, new.id, c.event,
         deck.log_json(new.id, new.mission_id, c.chunk)
  from (
    select 'log.appended' as event, substr(after, char_length(before) + 1) as chunk where starts_with(after, before)
    union all
    select 'log.replaced', after where not starts_with(after, before)
  ) c;
  return null;
end $$;

-- A deleted run takes its log's events along, with those that are not yet numbered.
create or replace function deck.forget_logs() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  log constant text := 'missions/' || old.mission_id || '/tests/' || old.id || '/logs';
begin
  delete from deck.pending where xid = pg_current_xact_id_if_assigned() and topic = log and event <> 'floor';
  with gone as (delete from deck.events where topic = log returning seq)
  insert into deck.pending (topic, mission_id, event, data)
  select log, old.mission_id, 'floor', to_jsonb(max(seq)) from gone having count(*) > 0;
  return null;
end $$;

-- What the database gives and refuses -----------------------------------------------------------------------------

create or replace function deck.give_number() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  loop
    new.number := nextval('deck.mission_number');
    exit when not exists (select from public.missions where number = new.number);
  end loop;
  return new;
end $$;

create or replace function deck.give_completed_at() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  new.completed_at := case when new.completed then now() at time zone 'utc' end;
  return new;
end $$;

create or replace function deck.refuse() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  raise check_violation using message = tg_argv[0], table = tg_table_name, schema = tg_table_schema;
end $$;

create or replace trigger give_number before insert on missions
  for each row when (new.number is null) execute function deck.give_number();
create or replace trigger give_completed_at before insert or update on dod_items
  for each row when (coalesce(new.completed, false) <> (new.completed_at is not null)) execute function deck.give_completed_at();

-- Only numbering gives a seq, and what it does is not noted again: it says so by a setting, and has rights on the heads
-- (the setting alone any role could make).
do $$
declare
  numbering constant text := $c$(current_setting('deck.numbering', true) is not distinct from 'on' and has_table_privilege('deck.heads'::regclass, 'update'))$c$;
  t text;
begin
  foreach t in array array['missions', 'dod_items', 'test_runs'] loop
    execute format($c$
      create or replace trigger refuse_seq before insert on %1$I for each row
        when (new.seq <> 0 and not %2$s) execute function deck.refuse('seq is given by the database');
      create or replace trigger refuse_seq_change before update on %1$I for each row
        when (new.seq is distinct from old.seq and not %2$s) execute function deck.refuse('seq is given by the database');
      create or replace trigger note_updated after update on %1$I referencing old table as old_rows new table as new_rows
        for each statement when (not %2$s) execute function deck.note_%1$s()
    $c$, t, numbering);
  end loop;
  execute format($c$
    create or replace trigger refuse_seq before insert on chat_messages for each row
      when ((new.seq is not null or new.at is not null) and not %1$s)
      execute function deck.refuse('seq is given by the database');
    create or replace trigger refuse_seq_change before update on chat_messages for each row
      when ((new.seq is distinct from old.seq or new.at is distinct from old.at) and not %1$s)
      execute function deck.refuse('seq is given by the database');
    create or replace trigger note_inserted after insert on chat_messages referencing new table as new_rows
      for each statement when (not %1$s) execute function deck.note_messages();
    create or replace trigger note_logs after update of logs on test_runs
      for each row when (not %1$s) execute function deck.note_logs()
  $c$, numbering);
end $$;

create or replace trigger refuse_move before update on missions for each row
  when (new.id <> old.id) execute function deck.refuse('a mission keeps its id');
create or replace trigger refuse_move before update on dod_items for each row
  when (new.id <> old.id or new.mission_id <> old.mission_id) execute function deck.refuse('an item keeps its id and mission');
create or replace trigger refuse_move before update on test_runs for each row
  when (new.id <> old.id or new.mission_id <> old.mission_id) execute function deck.refuse('a run keeps its id and mission');
create or replace trigger refuse_move before update on chat_messages for each row
  when (old.seq is not null and (new.id <> old.id or new.mission_id <> old.mission_id or new.citizen <> old.citizen
        or new.key is distinct from old.key or new.author is distinct from old.author))
  execute function deck.refuse('a message keeps its id, chat, author and key');

create or replace trigger note_deleted after delete on chat_messages referencing old table as old_rows
  for each statement execute function deck.note_removed_messages();
create or replace trigger note_deleted after delete on missions referencing old table as old_rows
  for each statement execute function deck.note_missions();
create or replace trigger note_inserted after insert on dod_items referencing new table as new_rows
  for each statement execute function deck.note_dod_items();
create or replace trigger note_deleted after delete on dod_items referencing old table as old_rows
  for each statement execute function deck.note_dod_items();
create or replace trigger note_inserted after insert on test_runs referencing new table as new_rows
  for each statement execute function deck.note_test_runs();
create or replace trigger note_logs_inserted after insert on test_runs
  for each row when (new.logs <> '') execute function deck.note_logs();
create or replace trigger forget_logs after delete on test_runs
  for each row execute function deck.forget_logs();
