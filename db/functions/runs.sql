-- Runs as tasks. A run that somebody asked for has a task of kind run, with the same id, in a citizen's inbox. The task ends when
-- any writer ends the run.

-- Records that something takes tasks of kind run for these citizens.
create or replace function deck.note_runners(p_citizens text[]) returns void language sql
set search_path = pg_catalog, pg_temp as $$
  insert into deck.run_workers as w (citizen, seen)
  select distinct c.name, clock_timestamp() from unnest(p_citizens) as c (name) order by c.name
  on conflict (citizen) do update set seen = excluded.seen where w.seen < excluded.seen - interval '1 second'
$$;

-- Something asks for tasks of these kinds. Only work on messages opens the inbox: a citizen that only works runs has no questions that wait.
create or replace function deck.open_work(p_citizen text, p_kinds text[]) returns void language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  if 'message' = any (p_kinds) then
    perform deck.open_inbox(p_citizen);
  end if;
  if 'run' = any (p_kinds) then
    perform deck.note_runners(array[p_citizen]);
  end if;
  perform deck.note_listening(array[p_citizen]);
end $$;

-- Makes a run a task, and wakes the citizen's workers.
create or replace function deck.add_run_task(p_run uuid, p_citizen text) returns void language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  insert into deck.tasks (id, run, citizen, mission_id, seq, at, since, checked)
  select r.id, r.id, p_citizen, r.mission_id, 0, x.now at time zone 'utc', x.now, x.now
  from public.test_runs r, (select clock_timestamp() as now) x
  where r.id = p_run;
  perform deck.hint_parked(array[p_run]);
end $$;

-- A run has ended, and its task with it. The holder's instance is notified, since the holder has room again.
create or replace function deck.end_run_task() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  update deck.tasks t set ended = clock_timestamp(), since = clock_timestamp(), lease_until = null, parked_until = null, returned = false
  where t.run = new.id and t.ended is null;
  if found then
    perform deck.hint_parked(array[new.id]);
  end if;
  return null;
end $$;

-- Fails a run, with the reason in its summary. A summary that has no room for the reason is replaced.
create or replace function deck.fail_run(p_run uuid, p_reason text) returns void language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  update public.test_runs r set status = 'failed', summary = coalesce(r.summary, '{}') || jsonb_build_object('reason', p_reason)
  where r.id = p_run;
exception when check_violation then
  update public.test_runs r set status = 'failed', summary = jsonb_build_object('reason', p_reason) where r.id = p_run;
end $$;

-- Returns when something last worked a run, or could have: the run and its log were changed, its lease ended, or a worker of the citizen
-- asked for runs or had one.
create or replace function deck.run_alive(p_task deck.tasks, p_seq bigint) returns timestamptz language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_tests constant text := 'missions/' || p_task.mission_id || '/tests';
begin
  return greatest(p_task.at at time zone 'utc', p_task.since, p_task.lease_until, p_task.ready_at,
    (select w.seen from deck.run_workers w where w.citizen = p_task.citizen),
    (select clock_timestamp() from deck.tasks t
     where t.citizen = p_task.citizen and t.lease_until is not null and t.lease_until > clock_timestamp() and t.run is not null limit 1),
    (select e.at at time zone 'utc' from deck.events e where e.topic = v_tests and e.seq = p_seq),
    (select e.at at time zone 'utc' from deck.events e
     where e.topic = v_tests || '/' || p_task.run || '/logs' order by e.seq desc limit 1));
end $$;

-- Fails runs that nobody works: after five attempts, after a cancel, and if nothing was heard of them for p_patience seconds (0: never).
-- Any instance calls it. It handles up to 200 runs, and waits for no lock.
create or replace function deck.fail_lost_runs(p_patience integer) returns integer language plpgsql
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_now    constant timestamptz := clock_timestamp();
  v_oldest constant timestamptz := v_now - make_interval(secs => p_patience);
  v_ids    uuid[];
  v_task   deck.tasks;
  v_run    public.test_runs;
  v_alive  timestamptz;
  v_reason text;
  v_count  integer := 0;
begin
  v_ids := array(
    select t.id from deck.tasks t
    where t.run is not null and t.ended is null and (t.attempt >= 5 or t.cancelled) and (t.lease_until is null or t.lease_until <= v_now)
    order by t.id limit 100)
    || array(
    select t.id from deck.tasks t
    where t.run is not null and t.ended is null and t.checked <= v_oldest and p_patience > 0
    order by t.checked limit 100);
  for v_task in
    select t.* from deck.tasks t where t.id = any (v_ids) and t.ended is null order by t.id for update skip locked
  loop
    select r.* into v_run from public.test_runs r where r.id = v_task.run for no key update skip locked;
    continue when v_run.id is null;
    v_reason := null;
    if v_run.status <> 'running' then
      update deck.tasks t set ended = v_now, since = v_now, lease_until = null where t.id = v_task.id;
    elsif v_task.lease_until > v_now then
      update deck.tasks t set checked = v_now where t.id = v_task.id;
    elsif v_task.cancelled then
      v_reason := 'cancelled by ' || coalesce(v_task.cancelled_by, 'a user');
    elsif v_task.attempt >= 5 then
      v_reason := 'no runner finished the run in five attempts';
    else
      v_alive := deck.run_alive(v_task, v_run.seq);
      if v_alive <= v_oldest then
        v_reason := 'no runner took the run: nothing asked for runs of ' || v_task.citizen || ' within ' || p_patience || ' s';
      else
        update deck.tasks t set checked = v_alive where t.id = v_task.id;
      end if;
    end if;
    if v_reason is not null then
      -- A run that can't be changed, as by a trigger of the application, holds up no other.
      begin
        perform deck.fail_run(v_run.id, v_reason);
        v_count := v_count + 1;
      exception when others then
        raise warning 'the run % could not be failed: %', v_run.id, sqlerrm;
        update deck.tasks t set checked = greatest(t.checked, v_oldest + interval '10 seconds') where t.id = v_task.id;
      end;
    end if;
  end loop;
  return v_count;
end $$;

-- Cancels a run. state: 'missing', 'ended' (it is not running), 'failed' (nobody had it) or 'asked': its holder is asked to stop.
create or replace function deck.cancel_run(p_mission uuid, p_run uuid, p_by text, out state text, out holder uuid) language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  v_task deck.tasks;
  v_run  public.test_runs;
begin
  select t.* into v_task from deck.tasks t where t.run = p_run for update;
  select r.* into v_run from public.test_runs r where r.id = p_run and r.mission_id = p_mission for no key update;
  if v_run.id is null then
    state := 'missing';
  elsif v_run.status <> 'running' then
    state := 'ended';
  elsif v_task.ended is null and v_task.lease_until > clock_timestamp() then
    update deck.tasks t set cancelled = true, cancelled_by = p_by where t.id = v_task.id;
    state := 'asked';
    holder := v_task.holder;
  else
    perform deck.fail_run(p_run, 'cancelled by ' || p_by);
    state := 'failed';
  end if;
end $$;

-- Returns the task of a run, if it has one that has not ended. listening: a worker of the citizen asked for runs within the last 60 s, or
-- has one.
create or replace function deck.run_task(p_run uuid)
returns table (citizen text, state text, attempt integer, since timestamptz, cancelled boolean, listening boolean) language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  return query
  select t.citizen, case when t.lease_until > v_now then 'working' else 'waiting' end, t.attempt,
    case when t.lease_until <= v_now then t.lease_until else t.since end, t.cancelled,
    exists (select from deck.run_workers w where w.citizen = t.citizen and w.seen > v_now - interval '60 seconds')
      or exists (
        select from deck.tasks h
        where h.citizen = t.citizen and h.lease_until is not null and h.lease_until > v_now and h.run is not null)
  from deck.tasks t where t.run = p_run and t.ended is null;
end $$;
