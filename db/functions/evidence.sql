-- Evidence: an item of the definition of done may name a test. Such an item can be completed only if that test passed.
--
-- The evidence is the newest finished run (passed or failed, by created_at and id) whose results have an element with that name. The
-- item's evidence columns hold that test's status. Only the database writes these columns; values from writers are ignored.
--
-- A transaction that changes a finished run, or an item that names a test, records a 'proof' in deck.pending. So it locks the head of the
-- mission's DoD topic at commit. The second of two such transactions therefore sees what the first has committed.
--
-- Under that lock deck.weigh() updates the items' evidence and refuses completions that lack it, before anything is numbered. It never
-- waits: an item that another transaction has locked is updated by that transaction, or by deck.weigh_again() if it rolls back. So an open
-- transaction delays no run.

-- Test results ------------------------------------------------------------------------------------------------------------

-- Returns the status of an element of results. An unknown status counts as 'failed'.
create or replace function deck.test_word(p_element jsonb) returns text language sql immutable parallel safe
  return case
    when lower((p_element ->> 'status') collate "C") in ('passed', 'pass', 'ok', 'success') then 'passed'
    when lower((p_element ->> 'status') collate "C") in ('skipped', 'skip', 'todo', 'pending', 'disabled') then 'skipped'
    else 'failed' end;

-- Returns the worst of the statuses of elements with the same name; null for an empty array.
create or replace function deck.worst(p_words text[]) returns text language sql immutable parallel safe
  return case when 'failed' = any (p_words) then 'failed' when 'skipped' = any (p_words) then 'skipped'
              when 'passed' = any (p_words) then 'passed' end;

-- Returns a run's tests: the elements of its results that are objects with a name.
create or replace function deck.tests_of(p_results jsonb) returns table (name text, element jsonb) language sql immutable parallel safe as $$
  select e.value ->> 'name', e.value
  from jsonb_array_elements(case when jsonb_typeof(p_results) = 'array' then p_results else '[]' end) e
  where jsonb_typeof(e.value) = 'object' and jsonb_typeof(e.value -> 'name') = 'string'
$$;

-- Searches the mission's runs for a test, newest first. (Runs without created_at are ignored.)
create or replace function deck.evidence_of(p_mission uuid, p_test text, out run uuid, out status text, out at timestamp)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_needle constant jsonb := jsonb_build_array(jsonb_build_object('name', p_test));
  v_at      timestamp;
  v_results jsonb;
begin
  status := 'missing';
  -- Reads only the time first. The index is sorted by time, so that no run older than the result is read.
  select t.created_at into v_at from public.test_runs t
  where t.mission_id = p_mission and t.created_at is not null and t.status in ('passed', 'failed') and t.results @> v_needle
  order by t.created_at desc limit 1;
  if not found then
    return;
  end if;
  at := v_at;
  select t.id, t.results into run, v_results from public.test_runs t
  where t.mission_id = p_mission and t.created_at = v_at and t.status in ('passed', 'failed') and t.results @> v_needle
  order by t.id desc limit 1;
  select case deck.worst(array_agg(deck.test_word(e))) when 'passed' then 'passed' when 'failed' then 'failed' else 'missing' end
  into status
  from jsonb_path_query(v_results, 'strict $[*] ? (@.name == $test)', jsonb_build_object('test', p_test)) e;
end $$;

-- Columns of items ------------------------------------------------------------------------------------------------------

-- Overwrites the evidence columns of a written row with the database's own. Unticking an item removes its override.
create or replace function deck.keep_evidence() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'UPDATE' and new.test_name is distinct from old.test_name and new.completed then
    raise exception using errcode = 'DK001', constraint = 'dod_items_test_name', table = tg_table_name, schema = tg_table_schema,
      message = 'the test name of a completed item can not be changed: untick the item first';
  end if;
  if new.test_name is null then
    new.evidence_run := null;
    new.evidence_status := null;
    new.evidence_at := null;
  elsif tg_op = 'INSERT' or new.test_name is distinct from old.test_name then
    select e.run, e.status, e.at into new.evidence_run, new.evidence_status, new.evidence_at
    from deck.evidence_of(new.mission_id, new.test_name) e;
  else
    new.evidence_run := old.evidence_run;
    new.evidence_status := old.evidence_status;
    new.evidence_at := old.evidence_at;
  end if;
  if not coalesce(new.completed, false) then
    new.override_reason := null;
  end if;
  if new.override_reason is null then
    new.override_by := null;
    new.override_at := null;
  elsif tg_op = 'INSERT' or new.override_reason is distinct from old.override_reason then
    new.override_by := deck.actor();
    new.override_at := clock_timestamp() at time zone 'utc';
  else
    new.override_by := old.override_by;
    new.override_at := old.override_at;
  end if;
  return new;
end $$;

create or replace function deck.refuse_override() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  raise insufficient_privilege using message = 'only admins can set override_reason', table = tg_table_name, schema = tg_table_schema;
end $$;

-- Audits an override by any writer.
create or replace function deck.audit_override() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  insert into deck.audit (action, actor, mission_id, detail)
  values ('dod.override', new.override_by, new.mission_id,
          jsonb_build_object('item', new.id, 'test_name', new.test_name, 'reason', new.override_reason));
  return null;
end $$;

-- Evaluation at commit --------------------------------------------------------------------------------------------------

-- Records a run as a 'proof' whose data is null. Nothing is recorded for a run that is deleted with its mission.
create or replace function deck.note_run_proof() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_run     uuid;
  v_mission uuid;
begin
  if tg_op = 'DELETE' then
    v_run := old.id;
    v_mission := old.mission_id;
  else
    v_run := new.id;
    v_mission := new.mission_id;
  end if;
  insert into deck.pending (topic, mission_id, row_id, event)
  select 'missions/' || m.id || '/dod', m.id, v_run, 'proof' from public.missions m where m.id = v_mission;
  return null;
end $$;

-- Records an item as a 'proof'. other: the item's test name was set or changed. held: the item needs evidence, because it was completed or
-- lost its override.
create or replace function deck.note_item_proof() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_was public.dod_items;
begin
  if tg_op = 'UPDATE' then
    v_was := old;
  end if;
  insert into deck.pending (topic, mission_id, row_id, event, data)
  values ('missions/' || new.mission_id || '/dod', new.mission_id, new.id, 'proof', jsonb_build_object(
    'other', new.test_name is distinct from v_was.test_name,
    'held', coalesce(new.completed, false) and new.override_reason is null
            and (not coalesce(v_was.completed, false) or v_was.override_reason is not null)));
  return null;
end $$;

-- Updates items' evidence and refuses completions that lack it: at commit, with the heads of the DoD topics locked. A written run is
-- compared with the item's current evidence. The mission's runs are searched only in three cases: the item's test name changed, the run that
-- was its evidence was changed or deleted, or the item was locked at the previous evaluation.
create or replace function deck.weigh() returns void language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_missions uuid[];
  v_runs     uuid[];
  v_others   uuid[];
  v_held     uuid[];
  v_names    text[];
  v_item     record;
  v_truth    record;
  v_ids      uuid[] := '{}';
  v_free     uuid[];
  v_by_run   uuid[] := '{}';
  v_statuses text[] := '{}';
  v_times    timestamp[] := '{}';
  v_lacking  text;
begin
  -- The proofs are removed first: if constraints are immediate, the update below numbers its own changes.
  with gone as (
    delete from deck.pending p where p.xid = pg_current_xact_id_if_assigned() and p.event = 'proof'
    returning p.mission_id, p.row_id, p.data)
  select array_agg(distinct g.mission_id), array_agg(g.row_id) filter (where g.data is null),
         array_agg(g.row_id) filter (where (g.data ->> 'other')::boolean), array_agg(g.row_id) filter (where (g.data ->> 'held')::boolean)
  into v_missions, v_runs, v_others, v_held
  from gone g;
  if v_missions is null then
    return;
  end if;
  -- The update changes nothing. It makes a transaction whose snapshot is older than this lock fail with 40001: it would miss committed rows.
  update deck.heads h set floor = h.floor where h.topic = any (array(select 'missions/' || m || '/dod' from unnest(v_missions) m));

  select array_agg(distinct i.test_name) into v_names
  from unnest(v_missions) m
  cross join lateral (select d.test_name from public.dod_items d where d.mission_id = m and d.test_name is not null offset 0) i;
  if v_names is null then
    return;
  end if;

  for v_item in
    -- Each test's status in the newest of these runs.
    with told as materialized (
      select distinct on (r.mission_id, x.name) r.mission_id, x.name, r.id, r.created_at, x.word
      from unnest(v_runs) u
      cross join lateral (
        select t.mission_id, t.id, t.created_at, t.results from public.test_runs t
        where t.id = u and t.status in ('passed', 'failed') and t.created_at is not null limit 1) r
      cross join lateral (
        select e.name, deck.worst(array_agg(deck.test_word(e.element))) as word
        from deck.tests_of(r.results) e where e.name = any (v_names) group by e.name) x
      order by r.mission_id, x.name, r.created_at desc, r.id desc
    )
    select i.*, t.id as run, case t.word when 'skipped' then 'missing' else t.word end as word, t.created_at as run_at,
           i.id = any (v_others) or i.evidence_run = any (v_runs) or exists (select from deck.unproven u where u.item = i.id) as search
    from unnest(v_missions) m
    cross join lateral (
      select d.id, d.mission_id, d.test_name, d.evidence_run, d.evidence_status, d.evidence_at
      from public.dod_items d where d.mission_id = m and d.test_name is not null offset 0) i
    left join told t on t.mission_id = i.mission_id and t.name = i.test_name
    where t.id is not null or i.id = any (v_others) or i.evidence_run = any (v_runs)
      or exists (select from deck.unproven u where u.item = i.id)
  loop
    if v_item.search then
      select e.run, e.status, e.at into v_truth from deck.evidence_of(v_item.mission_id, v_item.test_name) e;
    elsif v_item.evidence_run is null or (v_item.run_at, v_item.run) > (v_item.evidence_at, v_item.evidence_run) then
      select v_item.run as run, v_item.word as status, v_item.run_at as at into v_truth;
    else
      continue;
    end if;
    if v_item.search
      or (v_truth.run, v_truth.status, v_truth.at) is distinct from (v_item.evidence_run, v_item.evidence_status, v_item.evidence_at) then
      v_ids := v_ids || v_item.id;
      v_by_run := v_by_run || v_truth.run;
      v_statuses := v_statuses || v_truth.status;
      v_times := v_times || v_truth.at;
    end if;
  end loop;

  if v_ids <> '{}' then
    select array_agg(x.id) into v_free from (
      select d.id from public.dod_items d where d.id = any (v_ids) order by d.id for no key update skip locked) x;
    delete from deck.unproven u where u.item = any (v_free);
    insert into deck.unproven (item) select i from unnest(v_ids) i where i <> all (coalesce(v_free, '{}'));
    perform set_config('deck.weighing', pg_trigger_depth()::text, true);
    update public.dod_items d
    set evidence_run = x.run, evidence_status = x.status, evidence_at = x.at
    from unnest(v_ids, v_by_run, v_statuses, v_times) as x (id, run, status, at)
    where d.id = x.id and d.id = any (v_free) and (select set_config('search_path', 'public, pg_temp', true)) is not null
      and (d.evidence_run, d.evidence_status, d.evidence_at) is distinct from (x.run, x.status, x.at);
    perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    perform set_config('deck.weighing', 'off', true);
  end if;

  if v_held is not null then
    select string_agg(format('"%s" (%s: %s)', left(d.text, 60), left(d.test_name, 120), d.evidence_status), ', ' order by d.nth)
             filter (where d.nth <= 10)
           || case when max(d.nth) > 10 then format(' and %s more', max(d.nth) - 10) else '' end
    into v_lacking
    from (
      select i.*, row_number() over (order by i.ordinal) as nth from public.dod_items i
      where i.id = any (v_held) and i.completed and i.test_name is not null and i.override_reason is null
        and i.evidence_status <> 'passed') d;
    if v_lacking is not null then
      raise exception using errcode = 'DK001', constraint = 'dod_items_evidence', table = 'dod_items', schema = 'public',
        message = 'no passing evidence for ' || v_lacking;
    end if;
  end if;
end $$;

-- Housekeeping, run periodically by each instance: evaluates items that were locked at their last evaluation. (Items that were deleted
-- since, or name no test any more, are only removed from the list.)
create or replace function deck.weigh_again() returns void language plpgsql
set search_path = pg_catalog, public, pg_temp as $$
begin
  if not exists (select from deck.unproven) then
    return;
  end if;
  delete from deck.unproven x where x.ctid = any (array(
    select u.ctid from deck.unproven u
    where not exists (select from public.dod_items d where d.id = u.item and d.test_name is not null) for update skip locked));
  -- An update that changes nothing triggers the evaluation, too.
  update public.dod_items i set test_name = i.test_name where i.id = any (array(
    select d.id from public.dod_items d where d.id = any (array(select u.item from deck.unproven u limit 100))
    order by d.id for no key update skip locked));
end $$;
