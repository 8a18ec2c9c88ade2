-- Timelines and the past of a mission.
--
-- All that happened on a mission has one order: by the time of its numbering (`at`), which never decreases along a topic, then by
-- topic and seq. It may be told up to a horizon, below which nothing can come any more: transactions may be numbered early and
-- commit late. So each takes, before it reads the clock, a lock that is named by the second; nobody waits for it, a reader only
-- looks which are held. Nothing is written for it, and it ends with its transaction, however that ends.

-- Says that this transaction is about to number, now. Not obtained only if somebody else takes it exclusively; then nobody waits for him.
create or replace function deck.mark() returns boolean language sql volatile
  return pg_try_advisory_xact_lock_shared(47470016, floor(date_part('epoch', clock_timestamp()) - 1577836800)::integer);

-- What was numbered before this time is committed, or gone: for every statement that begins later.
-- A transaction that takes its lock after this look reads the clock after it; one that let go of it has committed visibly. Locks of
-- those that hold no head are not ours: anybody may take such a lock, but heads are locked by numbering only.
create or replace function deck.horizon() returns timestamp language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  moment constant timestamp := clock_timestamp() at time zone 'utc';
  oldest bigint;
begin
  with held as materialized (
    select locktype, classid, objid, objsubid, relation, mode, virtualtransaction
    from pg_locks
    where granted and database = (select oid from pg_database where datname = current_database())
      and locktype in ('advisory', 'relation'))
  select min(m.objid::bigint) into oldest
  from held m
  where m.locktype = 'advisory' and m.classid = 47470016 and m.objsubid = 2 and m.mode = 'ShareLock'
    and exists (
      select from held h
      where h.virtualtransaction = m.virtualtransaction and h.locktype = 'relation'
        and h.relation = 'deck.heads'::regclass and h.mode in ('RowShareLock', 'RowExclusiveLock'));
  return least(moment, timestamp '2020-01-01' + oldest * interval '1 second');
end $$;

-- Whoever numbers says so first --------------------------------------------------------------------------------------

create or replace function deck.number() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  violated text;
  topics   text[];
  proofs   boolean;
begin
  -- It fires once for each noted statement; the first firing does the work of all.
  if not exists (select from deck.pending where id = new.id) then
    return null;
  end if;

  -- Missing heads first, then the locks: whoever waits in the first pass holds only heads that nobody else can see yet.
  select array_agg(topic), bool_or(proof) into topics, proofs
  from (
    select topic, bool_or(proof) as proof
    from (
      select topic, false as proof from deck.change
      union all
      select topic, true from deck.pending where xid = pg_current_xact_id_if_assigned() and event = 'proof') x
    group by topic) y;
  insert into deck.heads (topic) select topic from unnest(topics) topic order by topic collate "C" on conflict do nothing;
  perform from (select from deck.heads h where h.topic = any (topics) order by h.topic for update) locked;
  if proofs then
    perform deck.weigh();
  end if;

  -- The heads are ours: what other transactions committed to these topics can be seen from here on. Not so in a snapshot
  -- that is older than the locks: there a seq may be given for the second time, which is a serialization failure.
  perform deck.mark();
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

create or replace procedure deck.append_messages(
  topics text[], chats integer[], ids uuid[], senders text[], authors text[], assigned text[], messages text[], blocks text[],
  keys text[], again boolean[], bys text[], wait integer, origin text,
  inout places json default null, inout others json default null, inout rights json default null, inout stamp text default null)
language plpgsql as $$
#variable_conflict use_variable
begin
  perform deck.mark();
  select s.places, s.others into places, others
  from deck.save_messages(topics, chats, ids, senders, authors, assigned, messages, blocks, keys, again, bys, wait, origin) s;
  commit;
  select json_agg(json_build_array(m.id, m.number, m.assigned_to)), (select salt || 'deck.heads'::regclass::oid from deck.epoch_salt)
  into rights, stamp
  from public.missions m
  where m.id = any (array(select distinct substr(t, 10, 36)::uuid from unnest(topics) as t));
end $$;

create or replace procedure deck.append_replies(
  topics text[], chats integer[], ids uuid[], senders text[], authors text[], assigned text[], messages text[], blocks text[],
  keys text[], again boolean[], bys text[], wait integer, origin text, tasks uuid[], holders uuid[],
  inout places json default null, inout others json default null, inout rights json default null, inout stamp text default null)
language plpgsql as $$
#variable_conflict use_variable
declare
  held uuid[];
  busy uuid[] := '{}';
  -- Whom no mission is assigned to: an entry of his is refused.
  nobody constant text := gen_random_uuid();
  refused text[];                            -- for each entry its outcome instead of 'gone', if its task is not held
begin
  if wait > 0 then
    perform set_config('lock_timeout', wait::text, true);
    select array_agg(id) into held from (select t.id from deck.tasks t where t.id = any (tasks) order by t.id for update) x;
  else
    select array_agg(id) into held from (
      select t.id from deck.tasks t where t.id = any (tasks) order by t.id for update skip locked) x;
    select array_agg(t.id) into busy from deck.tasks t where t.id = any (tasks) and t.id <> all (coalesce(held, '{}'));
  end if;
  select array_agg(case
      when e.task is null then null
      when e.task = any (busy) then 'busy'
      when t.id is null or e.nth > 1 then 'fenced' end order by e.n),
    array_agg(case when e.task is null or (t.id is not null and e.nth = 1) then e.assigned else nobody end order by e.n)
  into refused, assigned
  from (
    select x.*, row_number() over (partition by x.task order by x.n) as nth
    from rows from (unnest(tasks), unnest(holders), unnest(chats), unnest(assigned))
      with ordinality as x (task, holder, chat, assigned, n)) e
  left join deck.tasks t on t.id = e.task and t.id = any (held) and t.holder = e.holder and t.lease_until is not null
    and t.ended is null and not t.dead and topics[e.chat] = 'missions/' || t.mission_id || '/chat/' || t.citizen;

  perform deck.mark();
  select s.places, s.others into places, others
  from deck.save_messages(topics, chats, ids, senders, authors, assigned, messages, blocks, keys, again, bys, wait, origin) s;
  select json_agg(case
      when o.other ->> 'outcome' = 'gone' and refused[(o.other ->> 'n')::integer] is not null
      then o.other || jsonb_build_object('outcome', refused[(o.other ->> 'n')::integer]) else o.other end)
  into others from jsonb_array_elements(others::jsonb) as o (other);

  update deck.tasks t set ended = clock_timestamp(), lease_until = null
  from unnest(tasks) with ordinality as e (id, n)
  where t.id = e.id and t.id = any (held) and refused[e.n] is null
    and not exists (select from json_array_elements(others) o where (o ->> 'n')::bigint = e.n);
  commit;
  select json_agg(json_build_array(m.id, m.number, m.assigned_to)), (select salt || 'deck.heads'::regclass::oid from deck.epoch_salt)
  into rights, stamp
  from public.missions m
  where m.id = any (array(select distinct substr(t, 10, 36)::uuid from unnest(topics) as t));
end $$;

-- What instances of a version before call.
do $$
begin
  if to_regprocedure('deck.append_unmarked(uuid[], text[], json, integer)') is null then
    alter function deck.append(uuid[], text[], json, integer) rename to append_unmarked;
  end if;
end $$;
create or replace function deck.append(missions uuid[], topics text[], entries json, wait integer)
returns table (n integer, outcome text, seq bigint, created_at text, saved json) language plpgsql as $$
begin
  perform deck.mark();
  return query select * from deck.append_unmarked(missions, topics, entries, wait);
end $$;

-- A time's place in a topic -----------------------------------------------------------------------------------------------

-- The greatest seq of a topic that was numbered before `moment` (`through`: or at it), 0 if there is none: of a chat's messages, if a
-- citizen is named, of the topic's events otherwise. As times follow the seq, some 20 looks at its index find it among a million.
create or replace function deck.seq_at(topic text, mission uuid, citizen text, moment timestamp, through boolean)
returns bigint language plpgsql stable as $$
#variable_conflict use_variable
declare
  low  bigint := 0;                          -- before the moment, as far as is known
  high bigint;                               -- what follows from here on is not
  mid  bigint;
  seen record;
begin
  if moment = 'infinity' then
    return 9223372036854775807;
  end if;
  if moment = '-infinity' then
    return 0;
  end if;
  if citizen is null then
    select e.seq, e.at into seen from deck.events e where e.topic = topic order by e.seq desc limit 1;
  else
    select c.seq, c.at into seen from public.chat_messages c
    where c.mission_id = mission and c.citizen = citizen collate "default" and c.seq is not null order by c.seq desc limit 1;
  end if;
  if seen.seq is null or seen.at < moment or (through and seen.at = moment) then
    return coalesce(seen.seq, 0);
  end if;
  high := seen.seq;
  -- The first row, then halves.
  mid := 1;
  while low < mid and mid < high loop
    if citizen is null then
      select e.seq, e.at into seen from deck.events e where e.topic = topic and e.seq >= mid order by e.seq limit 1;
    else
      select c.seq, c.at into seen from public.chat_messages c
      where c.mission_id = mission and c.citizen = citizen collate "default" and c.seq >= mid order by c.seq limit 1;
    end if;
    if seen.at < moment or (through and seen.at = moment) then
      low := seen.seq;
    else
      high := mid;
    end if;
    mid := (low + high) / 2;
  end loop;
  return low;
end $$;

-- What events do not tell ---------------------------------------------------------------------------------------------------

-- How a mission began: its row before its first change. (Of one that was changed before this file came nobody knows.)
create table if not exists deck.beginnings (
  mission_id uuid primary key references public.missions (id) on delete cascade,
  data       jsonb not null
);
create or replace function deck.keep_beginning() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  insert into deck.beginnings (mission_id, data) values (old.id, deck.mission_json(old)) on conflict do nothing;
  return null;
end $$;
create or replace trigger keep_beginning after update on public.missions
  for each row when (old.seq = 0 and new.seq = 0 and old is distinct from new) execute function deck.keep_beginning();

-- Items and runs that were deleted: what places them in a list of the time before. No foreign key: nobody waits.
create table if not exists deck.removed (
  id         uuid primary key,
  mission_id uuid not null,
  ordinal    bigint,                         -- of an item
  created_at timestamp,                      -- of a run
  at         timestamp not null              -- when it went: of a run's end there is no event
);
create index if not exists removed_mission on deck.removed (mission_id);
create or replace function deck.keep_removed() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  moment constant timestamp := clock_timestamp() at time zone 'utc';
begin
  -- Not what goes with its mission.
  if not exists (select from public.missions where id = old.mission_id) then
    return null;
  end if;
  if tg_table_name = 'dod_items' then
    insert into deck.removed (id, mission_id, ordinal, at) values (old.id, old.mission_id, old.ordinal, moment)
    on conflict (id) do update set ordinal = excluded.ordinal, at = excluded.at;
  else
    insert into deck.removed (id, mission_id, created_at, at) values (old.id, old.mission_id, old.created_at, moment)
    on conflict (id) do update set created_at = excluded.created_at, at = excluded.at;
  end if;
  return null;
end $$;
create or replace trigger keep_removed after delete on public.dod_items
  for each row execute function deck.keep_removed();
create or replace trigger keep_removed after delete on public.test_runs
  for each row execute function deck.keep_removed();
create or replace function deck.forget_removed() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  delete from deck.removed r using old_rows o where r.mission_id = o.id;
  return null;
end $$;
create or replace trigger forget_removed after delete on public.missions referencing old table as old_rows
  for each statement execute function deck.forget_removed();

-- The events of one item or run; those of logs, which are many, are not in it.
create index if not exists events_of_row on deck.events ((data ->> 'id'), seq)
  where event in ('test_run.created', 'test_run.updated', 'dod_item.created', 'dod_item.updated', 'dod_item.deleted');
