-- Test runs of a mission, newest first.

create table if not exists public.test_runs (
  id         uuid primary key default gen_random_uuid(),
  mission_id uuid not null references public.missions (id),
  status     text not null,                  -- 'running', 'passed', 'failed'
  summary    jsonb,
  results    jsonb,
  logs       text,
  created_at timestamp default now()
);

create index if not exists idx_test_runs_mission on test_runs (mission_id, created_at desc);
