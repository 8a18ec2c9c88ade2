-- Retention: what was numbered before a time goes, in batches; and hints that go by another bus than NOTIFY.
--
-- A batch is a call and a transaction of its own. It waits for nobody: what somebody has locked is left to the next prune. What goes, goes
-- as by any DELETE, so that floors and the blocks of the search follow by the triggers that are there. Heads stay.

-- Up to when a mission was pruned: of a time before that there is no state (log/past).
create table if not exists deck.pruned (
  mission_id uuid primary key references public.missions (id) on delete cascade,
  before     timestamp not null
);

-- A floor is needed only where the greatest seq goes: as long as a later message is there, it tells where the chat stands, and whoever
-- removes that one notes its seq. So pruning takes no head's lock and leaves no versions of heads.
create or replace function deck.note_removed_messages() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
begin
  insert into deck.pending (topic, mission_id, event, data)
  select 'missions/' || o.mission_id || '/chat/' || o.citizen, o.mission_id, 'floor', to_jsonb(o.upto)
  from (select mission_id, citizen, max(seq) as upto from old_rows where seq is not null group by mission_id, citizen) o
  where not exists (
    select from public.chat_messages c where c.mission_id = o.mission_id and c.citizen = o.citizen and c.seq > o.upto);
  return null;
end $$;

-- Messages of a chat behind `after` up to `upto`, `most` of them at a time; -> the last one looked at (null: no more), how many went,
-- and how many were left as somebody has them locked, or works on them (their lease goes on).
create or replace function deck.prune_chat(
  mission uuid, who text, after bigint, upto bigint, most integer, out last bigint, out removed integer, out kept integer)
language plpgsql
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  ids uuid[];
  -- Tasks are locked before anything else, as everywhere.
  busy uuid[];
  free uuid[];
begin
  select array_agg(x.id), max(x.seq) into ids, last from (
    select c.id, c.seq from public.chat_messages c
    where c.mission_id = mission and c.citizen = who and c.seq > after and c.seq <= upto
    order by c.seq limit most) x;
  select array_agg(x.id) into free from (
    select t.id from deck.tasks t
    where t.id = any (ids) and coalesce(t.lease_until, '-infinity') <= clock_timestamp() order by t.id for update skip locked) x;
  select array_agg(t.id) into busy from deck.tasks t where t.id = any (ids) and t.id <> all (coalesce(free, '{}'));
  select array_agg(x.id) into free from (
    select c.id from public.chat_messages c
    where c.id = any (ids) and c.id <> all (coalesce(busy, '{}')) for update skip locked) x;
  delete from deck.tasks t where t.id = any (free);
  delete from public.chat_messages c where c.id = any (free);
  removed := coalesce(cardinality(free), 0);
  kept := coalesce(cardinality(ids), 0) - removed;
end $$;

-- Test runs that nothing has happened to since `before`, the oldest first, behind one of them. Not those that run, the evidence of an item,
-- and the mission's newest.
create or replace function deck.prunable_runs(mission uuid, before timestamp, after timestamp, after_id uuid, most integer)
returns table (id uuid, created_at timestamp, bytes bigint) language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_variable
begin
  return query
    select t.id, t.created_at, coalesce(s.bytes, 0)
    from public.test_runs t
    left join lateral (select max(z.upto) as bytes from deck.log_sizes z where z.run_id = t.id) s on true
    where t.mission_id = mission and t.created_at < before and (t.created_at, t.id) > (after, after_id) and t.status <> 'running'
      and not exists (select from public.dod_items d where d.mission_id = mission and d.evidence_run = t.id)
      and not exists (
        select from deck.events e
        where e.data ->> 'id' = t.id::text
          and e.event in ('test_run.created', 'test_run.updated', 'dod_item.created', 'dod_item.updated', 'dod_item.deleted')
          and e.at >= before)
      and coalesce((
        select e.at < before from deck.events e where e.topic = 'missions/' || mission || '/tests/' || t.id || '/logs'
        order by e.seq desc limit 1), true)
      and exists (
        select from public.test_runs n where n.mission_id = mission and (n.created_at, n.id) > (t.created_at, t.id))
    order by t.created_at, t.id limit most;
end $$;

-- Some of those, with their events and logs: up to `most`, or as many as have `size` bytes of logs, but for one; -> the last one looked at.
create or replace function deck.prune_runs(
  mission uuid, before timestamp, inout after timestamp, inout after_id uuid, most integer, size bigint, out removed integer, out kept integer)
language plpgsql
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_variable
declare
  log constant text := 'missions/' || mission || '/tests';
  ids uuid[];
  free uuid[];
begin
  select array_agg(x.id), max(x.created_at), (array_agg(x.id order by x.created_at desc, x.id desc))[1] into ids, after, after_id
  from (
    select p.id, p.created_at, sum(p.bytes) over (order by p.created_at, p.id) - p.bytes as ahead
    from deck.prunable_runs(mission, before, after, after_id, most) p) x
  where x.ahead < size;
  select array_agg(x.id) into free from (select t.id from public.test_runs t where t.id = any (ids) order by t.id for update skip locked) x;
  delete from public.test_runs t where t.id = any (free);
  -- Of no time any more.
  delete from deck.removed r where r.id = any (free);
  with gone as (
    delete from deck.events e
    where e.data ->> 'id' = any (free::text[])
      and e.event in ('test_run.created', 'test_run.updated', 'dod_item.created', 'dod_item.updated', 'dod_item.deleted') and e.topic = log
    returning e.seq)
  insert into deck.pending (topic, mission_id, event, data)
  select log, mission, 'floor', to_jsonb(max(g.seq)) from gone g
  having max(g.seq) >= (select e.seq from deck.events e where e.topic = log order by e.seq desc limit 1);
  removed := coalesce(cardinality(free), 0);
  kept := coalesce(cardinality(ids), 0) - removed;
end $$;

-- Events of a mission, its checklist or its runs (`topic`) that later ones made void before that time: the last event of each row stays, so
-- that the state of any time since is known, and whoever resumes from before still comes to the state of now. Up to `most` are looked at;
-- -> the last of them (null: no more), and how many went, or (`dry`) would go.
create or replace function deck.prune_events(
  topic text, after bigint, upto bigint, most integer, dry boolean, out last bigint, out removed integer)
language plpgsql
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_variable
declare
  seqs bigint[];
begin
  select max(x.seq), array_agg(x.seq) filter (where x.void) into last, seqs
  from (
    select e.seq, case when e.event like 'mission.%' then e.seq < upto else exists (
        select from deck.events n
        where n.data ->> 'id' = e.data ->> 'id' and n.seq > e.seq and n.seq <= upto
          and n.event in ('test_run.created', 'test_run.updated', 'dod_item.created', 'dod_item.updated', 'dod_item.deleted')
          and n.topic = topic) end as void
    from deck.events e
    where e.topic = topic and e.seq > after and e.seq <= upto
    order by e.seq limit most) x;
  removed := coalesce(cardinality(seqs), 0);
  if not dry then
    delete from deck.events e where e.topic = topic and e.seq = any (seqs);
  end if;
end $$;

-- Chats in which a block has come to be full. As before, but what is gone below the oldest message counts for nothing: a chat of
-- which little is left was looked through in each round, and never had a block.
create or replace function deck.search_due() returns table (mission_id uuid, citizen text) language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
begin
  return query
    select t.mission, t.who
    from deck.heads h
    cross join lateral (
      select substr(h.topic, 10, 36)::uuid as mission, substr(h.topic, 52) collate "default" as who offset 0) t
    cross join lateral (
      select c.seq from public.chat_messages c where c.mission_id = t.mission and c.citizen = t.who and c.seq is not null
      order by c.seq desc limit 1) n
    left join lateral (
      select b.last from deck.search_blocks b where b.mission_id = t.mission and b.citizen = t.who order by b.last desc limit 1) b on true
    where substr(h.topic, 46, 6) = '/chat/' and n.seq - coalesce(b.last, 0) >= 500
      and (b.last is not null or n.seq >= 499 + (
        select c.seq from public.chat_messages c where c.mission_id = t.mission and c.citizen = t.who and c.seq is not null
        order by c.seq limit 1))
    limit 1000;
end $$;

-- Hints by another bus: a session that says `deck.hints = off` notifies nobody of its batches, and tells the other instances by itself.
-- (Only the one expression of the function is another; whoever turns it off in a session of his own delays what he writes to the next poll.)
do $$
declare
  known constant text := $c$count(pg_notify(deck.hint_channel(topic), save_messages.origin || ' ' || seq || ' ' || topic))$c$;
  body  text;
  asks  boolean := false;
begin
  for body in
    select pg_get_functiondef(p.oid) from pg_proc p where p.proname = 'save_messages' and p.pronamespace = 'deck'::regnamespace
  loop
    if position(known in body) > 0 then
      body := replace(body, known, $c$count(case when current_setting('deck.hints', true) is distinct from 'off' then
      pg_notify(deck.hint_channel(topic), save_messages.origin || ' ' || seq || ' ' || topic) end)$c$);
      execute body;
    end if;
    asks := asks or position('deck.hints' in body) > 0;
  end loop;
  if not asks then
    raise exception 'deck.save_messages does not notify as it did';
  end if;
end $$;

-- A standby tells the same epoch as its primary: where nothing is written its timeline stands in the control file. (After a failover above
-- it that is late until the next restart point; its rows then count for nothing: log/replica.)
create or replace function deck.epoch() returns text language sql stable
  return (
    select left(encode(sha256(convert_to(concat_ws('/',
      (select system_identifier from pg_control_system()),
      case
        when pg_is_in_recovery() then (select lpad(upper(to_hex(timeline_id)), 8, '0') from pg_control_checkpoint())
        else left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) end,
      (select oid from pg_database where datname = current_database()),
      'deck.heads'::regclass::oid,
      (select salt from deck.epoch_salt)), 'UTF8')), 'hex'), 16));
