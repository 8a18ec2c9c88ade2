-- Retention (mission-deck prune): deletes rows that were numbered before a time, in batches.
--
-- Each call runs in a separate transaction and never waits: rows that another transaction has locked are left to the next prune. The usual
-- triggers maintain floors and search blocks. Heads are not deleted.

-- Deletes messages of a chat with p_after < seq <= p_upto, at most p_most. Returns the last seq read (null: no more), how many messages were
-- deleted, and how many were kept because another transaction has locked them or a session holds their task.
create or replace function deck.prune_chat(
  p_mission uuid, p_citizen text, p_after bigint, p_upto bigint, p_most integer, out last bigint, out removed integer, out kept integer)
language plpgsql
set search_path = pg_catalog, public, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_ids uuid[];
  -- Tasks are locked first (the lock order is in numbering.sql).
  v_busy uuid[];
  v_free uuid[];
begin
  select array_agg(x.id), max(x.seq) into v_ids, last from (
    select c.id, c.seq from public.chat_messages c
    where c.mission_id = p_mission and c.citizen = p_citizen and c.seq > p_after and c.seq <= p_upto
    order by c.seq limit p_most) x;
  select array_agg(x.id) into v_free from (
    select t.id from deck.tasks t
    where t.id = any (v_ids) and coalesce(t.lease_until, '-infinity') <= clock_timestamp() order by t.id for update skip locked) x;
  select array_agg(t.id) into v_busy from deck.tasks t where t.id = any (v_ids) and t.id <> all (coalesce(v_free, '{}'));
  select array_agg(x.id) into v_free from (
    select c.id from public.chat_messages c
    where c.id = any (v_ids) and c.id <> all (coalesce(v_busy, '{}')) for update skip locked) x;
  delete from deck.tasks t where t.id = any (v_free);
  delete from public.chat_messages c where c.id = any (v_free);
  removed := coalesce(cardinality(v_free), 0);
  kept := coalesce(cardinality(v_ids), 0) - removed;
end $$;

-- Returns test runs without a change since p_before, oldest first, that follow the run (p_after, p_after_id). Excluded are running runs,
-- runs that are an item's evidence, and the mission's newest run.
create or replace function deck.prunable_runs(p_mission uuid, p_before timestamp, p_after timestamp, p_after_id uuid, p_most integer)
returns table (id uuid, created_at timestamp, bytes bigint) language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
begin
  return query
    select t.id, t.created_at, coalesce(s.bytes, 0)
    from public.test_runs t
    left join lateral (select max(z.upto) as bytes from deck.log_sizes z where z.run_id = t.id) s on true
    where t.mission_id = p_mission and t.created_at < p_before and (t.created_at, t.id) > (p_after, p_after_id) and t.status <> 'running'
      and not exists (select from public.dod_items d where d.mission_id = p_mission and d.evidence_run = t.id)
      and not exists (
        select from deck.events e
        where e.data ->> 'id' = t.id::text
          and e.event in ('test_run.created', 'test_run.updated', 'dod_item.created', 'dod_item.updated', 'dod_item.deleted')
          and e.at >= p_before)
      and coalesce((
        select e.at < p_before from deck.events e where e.topic = 'missions/' || p_mission || '/tests/' || t.id || '/logs'
        order by e.seq desc limit 1), true)
      and exists (
        select from public.test_runs n where n.mission_id = p_mission and (n.created_at, n.id) > (t.created_at, t.id))
    order by t.created_at, t.id limit p_most;
end $$;

-- Deletes prunable runs with their events and logs: up to p_most runs or p_size bytes of logs, at least one run. Returns the last run read,
-- how many were deleted, and how many were kept because another transaction has locked them.
create or replace function deck.prune_runs(
  p_mission uuid, p_before timestamp, p_after timestamp, p_after_id uuid, p_most integer, p_size bigint,
  out after timestamp, out after_id uuid, out removed integer, out kept integer)
language plpgsql
set search_path = pg_catalog, public, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_tests constant text := 'missions/' || p_mission || '/tests';
  v_ids  uuid[];
  v_free uuid[];
begin
  select array_agg(x.id), max(x.created_at), (array_agg(x.id order by x.created_at desc, x.id desc))[1] into v_ids, after, after_id
  from (
    select p.id, p.created_at, sum(p.bytes) over (order by p.created_at, p.id) - p.bytes as ahead
    from deck.prunable_runs(p_mission, p_before, p_after, p_after_id, p_most) p) x
  where x.ahead < p_size;
  select array_agg(x.id) into v_free from (
    select t.id from public.test_runs t where t.id = any (v_ids) order by t.id for update skip locked) x;
  delete from public.test_runs t where t.id = any (v_free);
  -- No past state that can still be read contains these runs.
  delete from deck.removed r where r.id = any (v_free);
  with gone as (
    delete from deck.events e
    where e.data ->> 'id' = any (v_free::text[])
      and e.event in ('test_run.created', 'test_run.updated', 'dod_item.created', 'dod_item.updated', 'dod_item.deleted') and e.topic = v_tests
    returning e.seq)
  insert into deck.pending (topic, mission_id, event, data)
  select v_tests, p_mission, 'floor', to_jsonb(max(g.seq)) from gone g
  having max(g.seq) >= (select e.seq from deck.events e where e.topic = v_tests order by e.seq desc limit 1);
  removed := coalesce(cardinality(v_free), 0);
  kept := coalesce(cardinality(v_ids), 0) - removed;
end $$;

-- Deletes events of a mission, its checklist or its runs (p_topic) if a later event with seq <= p_upto replaces them. Each row's last event
-- stays: the state at any later time is still known, and a client that resumes from an older seq still reaches the current state.
-- Reads up to p_most events. Returns the last seq read (null: no more), and how many events were deleted, or would be (p_dry).
create or replace function deck.prune_events(
  p_topic text, p_after bigint, p_upto bigint, p_most integer, p_dry boolean, out last bigint, out removed integer)
language plpgsql
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_seqs bigint[];
begin
  select max(x.seq), array_agg(x.seq) filter (where x.void) into last, v_seqs
  from (
    select e.seq, case when e.event like 'mission.%' then e.seq < p_upto when e.event like 'request.%' then exists (
        select from deck.requests r where r.id = (e.data ->> 'id')::uuid and r.seq > e.seq and r.seq <= p_upto)
      else exists (
        select from deck.events n
        where n.data ->> 'id' = e.data ->> 'id' and n.seq > e.seq and n.seq <= p_upto
          and n.event in ('test_run.created', 'test_run.updated', 'dod_item.created', 'dod_item.updated', 'dod_item.deleted')
          and n.topic = p_topic) end as void
    from deck.events e
    where e.topic = p_topic and e.seq > p_after and e.seq <= p_upto
    order by e.seq limit p_most) x;
  removed := coalesce(cardinality(v_seqs), 0);
  if not p_dry then
    delete from deck.events e where e.topic = p_topic and e.seq = any (v_seqs);
  end if;
end $$;
