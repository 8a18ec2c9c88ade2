-- Runs as tasks: who works them, when they were last checked, and who cancelled them.

-- When something last asked for tasks of kind run. (Such work opens no inbox for messages.)
create table deck.run_workers (
  citizen text primary key,
  seen    timestamptz not null
);

alter table deck.tasks
  add column checked      timestamptz,       -- of a run: until then it is known that somebody worked it, or may have
  add column cancelled_by text;              -- of a run whose holder was asked to stop
create index tasks_idle_runs on deck.tasks (checked) where run is not null and ended is null;
create index tasks_spent_runs on deck.tasks (id) where run is not null and ended is null and (attempt >= 5 or cancelled);

-- (The function is in db/functions/runs.sql.)
do $$ begin
  execute format($f$create function deck.%I() returns trigger language plpgsql as
    $b$ begin raise exception 'db/functions is not applied to this database'; end $b$ $f$, 'end_run_task');
end $$;
create trigger end_task after update of status on public.test_runs
  for each row when (old.status = 'running' and new.status <> 'running') execute function deck.end_run_task();
