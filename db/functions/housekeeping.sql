-- Housekeeping, and functions for operators.

-- Run periodically by each instance. If a run has ended, or its log has not grown for 10 minutes, the log is copied to test_runs.logs for
-- SQL readers. Keys that were cleared over 24 hours ago are deleted.
create or replace function deck.tidy() returns void language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  v_run record;
begin
  for v_run in
    select t.id, t.mission_id
    from deck.open_logs o join public.test_runs t on t.id = o.run_id
    where t.status <> 'running' or now() at time zone 'utc' - interval '10 minutes' > (
      select e.at from deck.events e where e.topic = 'missions/' || t.mission_id || '/tests/' || t.id || '/logs' order by e.seq desc limit 1)
    for update skip locked limit 100
  loop
    perform deck.fold_log(v_run.mission_id, v_run.id);
    delete from deck.open_logs o where o.run_id = v_run.id;
  end loop;
  delete from deck.cleared_keys k where k.ctid = any (array(
    select c.ctid from deck.cleared_keys c where c.cleared_at < now() at time zone 'utc' - interval '24 hours' for update skip locked));
end $$;

-- Returns old rows that violate a constraint, by table and id (at most 100 per constraint).
create or replace function deck.violations() returns table (tab text, id uuid, broken text) language plpgsql stable as $$
declare
  v_check record;
begin
  for v_check in
    select c.conrelid::regclass as rel, c.conname, pg_get_expr(c.conbin, c.conrelid) as expr
    from pg_constraint c
    where c.contype = 'c' and not c.convalidated
      and c.conrelid in ('public.missions'::regclass, 'public.dod_items'::regclass, 'public.chat_messages'::regclass, 'public.test_runs'::regclass)
  loop
    return query execute format('select %L::text, r.id, %L::text from %s r where not (%s) limit 100',
      v_check.rel, v_check.conname, v_check.rel, v_check.expr);
  end loop;
end $$;

-- A probe for an instance whose last batch failed: writes a row that fills a new page, and deletes earlier ones.
create or replace function deck.try_writing() returns void language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  delete from deck.write_tests w where w.ctid = any (array(
    select t.ctid from deck.write_tests t for update skip locked limit 10));
  insert into deck.write_tests (filler) values (repeat(md5(random()::text), 240));
end $$;
