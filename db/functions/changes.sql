-- Triggers of the four tables. They record each statement's changes in deck.pending, for deck.number() at commit. They also set columns of
-- new rows, refuse changes, and clean up after deletions.

-- Recording changes -----------------------------------------------------------------------------------------------

create or replace function deck.note_messages() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  insert into deck.pending (messages)
  select array_agg(x.id order by x.n)
  from (select r.id, row_number() over () as n from new_rows r where r.seq is null) x
  group by x.n / 10000
  order by x.n / 10000;
  return null;
end $$;

-- Messages that SQL deletes cause no event, but their seqs are never reused. A floor is recorded only if a chat's last message was deleted:
-- otherwise the last message still holds the chat's latest seq. So pruning locks no head.
create or replace function deck.note_removed_messages() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
begin
  insert into deck.pending (topic, mission_id, event, data)
  select 'missions/' || o.mission_id || '/chat/' || o.citizen, o.mission_id, 'floor', to_jsonb(o.upto)
  from (select r.mission_id, r.citizen, max(r.seq) as upto from old_rows r where r.seq is not null group by r.mission_id, r.citizen) o
  where not exists (
    select from public.chat_messages c where c.mission_id = o.mission_id and c.citizen = o.citizen and c.seq > o.upto);
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
    -- The mission's rows in other tables are already deleted, so that nothing can be added to their topics. Their events are deleted here.
    with gone as (
      delete from deck.events e using old_rows o
      where e.topic > 'missions/' || o.id || '/' and e.topic < 'missions/' || o.id || '0'
      returning e.topic, e.seq, o.id
    )
    insert into deck.pending (topic, mission_id, event, data)
    select g.topic, g.id, 'floor', to_jsonb(max(g.seq)) from gone g group by g.topic, g.id;
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
    -- Items that are deleted with their mission cause no event.
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

-- Columns that the database sets, and refusals --------------------------------------------------------------------

create or replace function deck.give_number() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  loop
    new.number := nextval('deck.mission_number');
    exit when not exists (select from public.missions m where m.number = new.number);
  end loop;
  return new;
end $$;

create or replace function deck.give_completed_at() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  new.completed_at := case when new.completed then now() at time zone 'utc' end;
  return new;
end $$;

-- The trigger's argument is the error message.
create or replace function deck.refuse() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  raise check_violation using message = tg_argv[0], table = tg_table_name, schema = tg_table_schema;
end $$;

-- Notifications about missions, and history -----------------------------------------------------------------------

-- Notifies all instances that a mission was created, changed or deleted, so that they update lists of missions. The payload is only the id:
-- any role can send notifications, so instances read the mission's assignment themselves (src/database/read/topics, assigned).
create or replace function deck.tell_mission() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  perform pg_notify('deck', 'missions ' || case when tg_op = 'DELETE' then old.id else new.id end);
  return null;
end $$;

-- Stores a mission's row before its first change, because no event contains it.
create or replace function deck.keep_beginning() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  insert into deck.beginnings (mission_id, data) values (old.id, deck.mission_json(old)) on conflict do nothing;
  return null;
end $$;

-- Stores the sort key of a deleted item or run, so that past states can list it in its order.
create or replace function deck.keep_removed() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_now constant timestamp := deck.now();
begin
  -- Nothing is stored for rows that are deleted with their mission.
  if not exists (select from public.missions m where m.id = old.mission_id) then
    return null;
  end if;
  if tg_table_name = 'dod_items' then
    insert into deck.removed (id, mission_id, ordinal, at) values (old.id, old.mission_id, old.ordinal, v_now)
    on conflict (id) do update set ordinal = excluded.ordinal, at = excluded.at;
  else
    insert into deck.removed (id, mission_id, created_at, at) values (old.id, old.mission_id, old.created_at, v_now)
    on conflict (id) do update set created_at = excluded.created_at, at = excluded.at;
  end if;
  return null;
end $$;

create or replace function deck.forget_removed() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  delete from deck.removed r using old_rows o where r.mission_id = o.id;
  return null;
end $$;

create or replace function deck.forget_reads() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  delete from deck.reads r using old_rows o where r.mission_id = o.id;
  return null;
end $$;
