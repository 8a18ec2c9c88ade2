-- Evidence: an item of the definition of done may name a test, and then it can be completed only if that test passed.
--
-- What counts is the newest finished run (passed or failed, by created_at and id) whose results have an element with that
-- name. The item's columns hold what that run says; they are the database's to write, whatever a writer gives.
--
-- Whoever changes a finished run, or an item that names a test, notes a 'proof' in deck.pending. It asks for the lock of the
-- mission's DoD topic at commit, so whoever comes second sees what the first has committed: a run and an item that names its
-- test, two runs, a run and a completion. Under that lock deck.weigh() gives the items their evidence and refuses what lacks
-- it, before anything is numbered. It waits for nobody: an item that somebody else has locked is left to that transaction, and
-- to deck.weigh_again() if it rolls back. So a transaction that stays open holds up no run.

alter table dod_items add column if not exists test_name       text;
alter table dod_items add column if not exists evidence_run    uuid;      -- no foreign key: a run's deletion is weighed like any change
alter table dod_items add column if not exists evidence_status text;      -- null if no test is named
alter table dod_items add column if not exists evidence_at     timestamp; -- created_at of that run
alter table dod_items add column if not exists override_reason text;      -- completed without evidence, by an admin
alter table dod_items add column if not exists override_by     text;
alter table dod_items add column if not exists override_at     timestamp;

do $$
declare r record;
begin
  for r in
    select * from (values
      ('dod_items_test_name_valid', $c$char_length(test_name) between 1 and 1000$c$),
      ('dod_items_override_valid',
       $c$override_reason is null or (char_length(override_reason) between 1 and 1000 and completed and test_name is not null)$c$)
    ) as c (name, expr)
  loop
    if not exists (select from pg_constraint where conname = r.name and conrelid = 'dod_items'::regclass) then
      execute format('alter table dod_items add constraint %I check (%s)', r.name, r.expr);
    end if;
  end loop;
end $$;

-- Items whose evidence may be out of date, as somebody had them locked when a run was written. Without a key: two who note the
-- same item do not wait for one another.
create table if not exists deck.unproven (item uuid not null);

-- The members are there only where a test is named.
create or replace function deck.dod_item_json(d public.dod_items) returns jsonb language sql stable parallel safe
  return jsonb_build_object(
    'id', d.id, 'mission_id', d.mission_id, 'text', d.text, 'category', d.category,
    'completed', coalesce(d.completed, false), 'completed_at', deck.iso(d.completed_at), 'seq', d.seq)
    || case when d.test_name is null then '{}' else jsonb_build_object(
         'test_name', d.test_name,
         'evidence', jsonb_build_object('run', d.evidence_run, 'status', d.evidence_status, 'at', deck.iso(d.evidence_at))) end
    || case when d.override_reason is null then '{}' else jsonb_build_object(
         'override', jsonb_build_object('reason', d.override_reason, 'by', d.override_by, 'at', deck.iso(d.override_at))) end;

-- What a run says of a test -------------------------------------------------------------------------------------------

-- What an element of results says: it passed by its own word only. What we don't know is no pass.
create or replace function deck.test_word(element jsonb) returns text language sql immutable parallel safe
  return case
    when lower(element ->> 'status') in ('passed', 'pass', 'ok', 'success') then 'passed'
    when lower(element ->> 'status') in ('skipped', 'skip', 'todo', 'pending', 'disabled') then 'skipped'
    else 'failed' end;

-- Of several elements with one name the worst counts; none: null.
create or replace function deck.worst(words text[]) returns text language sql immutable parallel safe
  return case when 'failed' = any (words) then 'failed' when 'skipped' = any (words) then 'skipped'
              when 'passed' = any (words) then 'passed' end;

-- A run's tests: elements of its results that are objects with a name.
create or replace function deck.tests_of(results jsonb) returns table (name text, element jsonb) language sql immutable parallel safe as $$
  select e ->> 'name', e
  from jsonb_array_elements(case when jsonb_typeof(results) = 'array' then results else '[]' end) e
  where jsonb_typeof(e) = 'object' and jsonb_typeof(e -> 'name') = 'string'
$$;

-- Looks for it in the mission's history, from the newest run on. (A run without a time stands nowhere in that order.)
create or replace function deck.evidence_of(mission uuid, test text, out run uuid, out status text, out at timestamp)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  needle constant jsonb := jsonb_build_array(jsonb_build_object('name', test));
  listed jsonb;
begin
  status := 'missing';
  -- First the time alone, which the index has in order, so that no run older than the one found is read.
  select t.created_at into at from public.test_runs t
  where t.mission_id = mission and t.created_at is not null and t.status in ('passed', 'failed') and t.results @> needle
  order by t.created_at desc limit 1;
  if not found then
    return;
  end if;
  select t.id, t.results into run, listed from public.test_runs t
  where t.mission_id = mission and t.created_at = evidence_of.at and t.status in ('passed', 'failed') and t.results @> needle
  order by t.id desc limit 1;
  select case deck.worst(array_agg(deck.test_word(e))) when 'passed' then 'passed' when 'failed' then 'failed' else 'missing' end
  into status
  from jsonb_path_query(listed, 'strict $[*] ? (@.name == $test)', jsonb_build_object('test', test)) e;
end $$;

-- What a writer gives ---------------------------------------------------------------------------------------------------

-- The columns of evidence are never a writer's. An override stands or falls with the completion that it is for.
create or replace function deck.keep_evidence() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'UPDATE' and new.test_name is distinct from old.test_name and new.completed then
    raise exception using errcode = 'DK001', constraint = 'dod_items_test_name', table = tg_table_name, schema = tg_table_schema,
      message = 'the test of a completed item stays: untick the item first';
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
    -- The API names its actor by a setting of the transaction, others are known by their login.
    new.override_by := coalesce(nullif(current_setting('deck.actor', true), ''), session_user);
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
  raise insufficient_privilege using message = 'an override is for admins to give', table = tg_table_name, schema = tg_table_schema;
end $$;

-- It stands in the audit, whoever gave it.
create or replace function deck.audit_override() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  insert into deck.audit (action, actor, mission_id, detail)
  values ('dod.override', new.override_by, new.mission_id,
          jsonb_build_object('item', new.id, 'test_name', new.test_name, 'reason', new.override_reason));
  return null;
end $$;

alter table deck.audit drop constraint if exists audit_action_check;
alter table deck.audit add constraint audit_action_check
  check (action in ('chat.clear', 'mission.delete', 'message.as', 'revoke', 'unrevoke', 'dod.override'));

-- What is to be weighed at commit ---------------------------------------------------------------------------------------

-- A run: its data is null. Not one that goes with its mission.
create or replace function deck.note_run_proof() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  run     uuid;
  mission uuid;
begin
  if tg_op = 'DELETE' then
    run := old.id;
    mission := old.mission_id;
  else
    run := new.id;
    mission := new.mission_id;
  end if;
  insert into deck.pending (topic, mission_id, row_id, event)
  select 'missions/' || m.id || '/dod', m.id, run, 'proof' from public.missions m where m.id = mission;
  return null;
end $$;

-- An item: whether its test is another one, and whether it is to be held to its evidence, as it was completed or lost its override.
create or replace function deck.note_item_proof() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  was public.dod_items;
begin
  if tg_op = 'UPDATE' then
    was := old;
  end if;
  insert into deck.pending (topic, mission_id, row_id, event, data)
  values ('missions/' || new.mission_id || '/dod', new.mission_id, new.id, 'proof', jsonb_build_object(
    'other', new.test_name is distinct from was.test_name,
    'held', coalesce(new.completed, false) and new.override_reason is null
            and (not coalesce(was.completed, false) or was.override_reason is not null)));
  return null;
end $$;

-- A proof is no event: it gets no seq.
create or replace view deck.change as
  select p.id as stmt, r.ord, 'missions/' || c.mission_id || '/chat/' || c.citizen as topic,
         c.mission_id, c.id as row_id, null::text as event, null::jsonb as data
  from deck.pending p
  cross join lateral unnest(p.messages) with ordinality as r (id, ord)
  cross join lateral (
    select m.mission_id, m.citizen, m.id from public.chat_messages m where m.id = r.id and m.seq is null limit 1) c
  where p.xid = pg_current_xact_id_if_assigned() and p.messages is not null
  union all
  select p.id, 1, p.topic, p.mission_id, p.row_id, p.event, p.data
  from deck.pending p
  where p.xid = pg_current_xact_id_if_assigned() and p.messages is null and p.event <> 'proof'
    and (p.event in ('mission.deleted', 'floor') or exists (select from public.missions m where m.id = p.mission_id));

-- Weighing --------------------------------------------------------------------------------------------------------------

-- Gives items their evidence and refuses completions that lack it: at commit, under the heads of their DoD topics. A run that
-- was written is compared with what an item has; its history is looked through only where that says nothing: another test is
-- named, the run that was the evidence changed or went, or the item could not be reached the last time.
create or replace function deck.weigh() returns void language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  missions uuid[];
  runs     uuid[];
  others   uuid[];
  held     uuid[];
  names    text[];
  item     record;
  truth    record;
  ids      uuid[] := '{}';
  free     uuid[];
  by_run   uuid[] := '{}';
  statuses text[] := '{}';
  times    timestamp[] := '{}';
  lacking  text;
begin
  -- Taken out before anything else: where constraints are immediate, the update below numbers what it changes by itself.
  with gone as (
    delete from deck.pending where xid = pg_current_xact_id_if_assigned() and event = 'proof' returning mission_id, row_id, data)
  select array_agg(distinct mission_id), array_agg(row_id) filter (where data is null),
         array_agg(row_id) filter (where (data ->> 'other')::boolean), array_agg(row_id) filter (where (data ->> 'held')::boolean)
  into missions, runs, others, held
  from gone;
  if missions is null then
    return;
  end if;
  -- Written, so that a snapshot that is older than this lock, and would miss what is committed here, ends as 40001.
  update deck.heads h set floor = h.floor where h.topic = any (array(select 'missions/' || m || '/dod' from unnest(missions) m));

  select array_agg(distinct i.test_name) into names
  from unnest(missions) m
  cross join lateral (select d.test_name from public.dod_items d where d.mission_id = m and d.test_name is not null offset 0) i;
  if names is null then
    return;
  end if;

  for item in
    -- The newest word of these runs for each name.
    with told as materialized (
      select distinct on (r.mission_id, x.name) r.mission_id, x.name, r.id, r.created_at, x.word
      from unnest(runs) u
      cross join lateral (
        select t.mission_id, t.id, t.created_at, t.results from public.test_runs t
        where t.id = u and t.status in ('passed', 'failed') and t.created_at is not null limit 1) r
      cross join lateral (
        select e.name, deck.worst(array_agg(deck.test_word(e.element))) as word
        from deck.tests_of(r.results) e where e.name = any (names) group by e.name) x
      order by r.mission_id, x.name, r.created_at desc, r.id desc
    )
    select i.*, t.id as run, case t.word when 'skipped' then 'missing' else t.word end as word, t.created_at as run_at,
           i.id = any (others) or i.evidence_run = any (runs) or exists (select from deck.unproven u where u.item = i.id) as search
    from unnest(missions) m
    cross join lateral (
      select d.id, d.mission_id, d.test_name, d.evidence_run, d.evidence_status, d.evidence_at
      from public.dod_items d where d.mission_id = m and d.test_name is not null offset 0) i
    left join told t on t.mission_id = i.mission_id and t.name = i.test_name
    where t.id is not null or i.id = any (others) or i.evidence_run = any (runs)
      or exists (select from deck.unproven u where u.item = i.id)
  loop
    if item.search then
      select e.run, e.status, e.at into truth from deck.evidence_of(item.mission_id, item.test_name) e;
    elsif item.evidence_run is null or (item.run_at, item.run) > (item.evidence_at, item.evidence_run) then
      select item.run as run, item.word as status, item.run_at as at into truth;
    else
      continue;
    end if;
    if item.search
      or (truth.run, truth.status, truth.at) is distinct from (item.evidence_run, item.evidence_status, item.evidence_at) then
      ids := ids || item.id;
      by_run := by_run || truth.run;
      statuses := statuses || truth.status;
      times := times || truth.at;
    end if;
  end loop;

  if ids <> '{}' then
    select array_agg(id) into free from (
      select d.id from public.dod_items d where d.id = any (ids) order by d.id for no key update skip locked) x;
    delete from deck.unproven u where u.item = any (free);
    insert into deck.unproven (item) select i from unnest(ids) i where i <> all (coalesce(free, '{}'));
    perform set_config('deck.weighing', 'on', true);
    update public.dod_items d
    set evidence_run = x.run, evidence_status = x.status, evidence_at = x.at
    from unnest(ids, by_run, statuses, times) as x (id, run, status, at)
    where d.id = x.id and d.id = any (free)
      and (d.evidence_run, d.evidence_status, d.evidence_at) is distinct from (x.run, x.status, x.at);
    perform set_config('deck.weighing', 'off', true);
  end if;

  if held is not null then
    select string_agg(format('"%s" (%s: %s)', left(d.text, 60), left(d.test_name, 120), d.evidence_status), ', ' order by d.nth)
             filter (where d.nth <= 10)
           || case when max(d.nth) > 10 then format(' and %s more', max(d.nth) - 10) else '' end
    into lacking
    from (
      select *, row_number() over (order by i.ordinal) as nth from public.dod_items i
      where i.id = any (held) and i.completed and i.test_name is not null and i.override_reason is null
        and i.evidence_status <> 'passed') d;
    if lacking is not null then
      raise exception using errcode = 'DK001', constraint = 'dod_items_evidence', table = 'dod_items', schema = 'public',
        message = 'no passing evidence for ' || lacking;
    end if;
  end if;
end $$;

-- As in 009, but that the topics of proofs are locked too, and weighed before the seqs are given.
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

-- House-keeping, run by every instance now and then: items that were locked when they were to be weighed. (Some went since, or name no test.)
create or replace function deck.weigh_again() returns void language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (select from deck.unproven) then
    return;
  end if;
  delete from deck.unproven where ctid = any (array(
    select u.ctid from deck.unproven u
    where not exists (select from public.dod_items d where d.id = u.item and d.test_name is not null) for update skip locked));
  -- An update that changes nothing is weighed all the same.
  update public.dod_items set test_name = test_name where id = any (array(
    select d.id from public.dod_items d where d.id = any (array(select item from deck.unproven limit 100))
    order by d.id for no key update skip locked));
end $$;

-- Triggers --------------------------------------------------------------------------------------------------------------

-- Numbering and weighing are not weighed again: they say so by a setting, and have rights on the heads (as in 005).
do $$
declare
  ours  constant text := $c$has_table_privilege('deck.heads'::regclass, 'update')$c$;
  busy  constant text := format(
    $c$(%s and (current_setting('deck.numbering', true) is not distinct from 'on' or current_setting('deck.weighing', true) is not distinct from 'on'))$c$, ours);
  given constant text := $c$(new.test_name is not null or new.evidence_run is not null or new.evidence_status is not null
    or new.evidence_at is not null or new.override_reason is not null or new.override_by is not null or new.override_at is not null)$c$;
begin
  execute format($c$
    create or replace trigger keep_evidence before insert on dod_items for each row
      when (%1$s) execute function deck.keep_evidence();
    create or replace trigger keep_evidence_change before update on dod_items for each row
      when ((%1$s or old.test_name is not null) and not %2$s) execute function deck.keep_evidence();
    create or replace trigger refuse_override before insert on dod_items for each row
      when (new.override_reason is not null and not %3$s) execute function deck.refuse_override();
    create or replace trigger refuse_override_change before update on dod_items for each row
      when (new.override_reason is distinct from old.override_reason and coalesce(new.completed, false) and not %3$s)
      execute function deck.refuse_override();
    create or replace trigger note_proof after insert on dod_items for each row
      when (new.test_name is not null) execute function deck.note_item_proof();
    create or replace trigger note_proof_change after update on dod_items for each row
      when (new.test_name is not null and not %2$s) execute function deck.note_item_proof();
    -- (One that is put back is no new one.)
    create or replace trigger audit_override after insert on dod_items for each row
      when (new.override_reason is not null and not %2$s) execute function deck.audit_override();
    create or replace trigger audit_override_change after update on dod_items for each row
      when (new.override_reason is not null and new.override_reason is distinct from old.override_reason and not %2$s)
      execute function deck.audit_override()
  $c$, given, busy, ours);
end $$;

create or replace trigger note_proof after insert on test_runs for each row
  when (new.status in ('passed', 'failed') and new.results is not null) execute function deck.note_run_proof();
create or replace trigger note_proof_change after update of status, results, created_at on test_runs for each row
  when (((old.status in ('passed', 'failed') and old.results is not null) or (new.status in ('passed', 'failed') and new.results is not null))
    and (new.status is distinct from old.status or new.results is distinct from old.results or new.created_at is distinct from old.created_at))
  execute function deck.note_run_proof();
create or replace trigger note_proof_removed after delete on test_runs for each row
  when (old.status in ('passed', 'failed') and old.results is not null) execute function deck.note_run_proof();
