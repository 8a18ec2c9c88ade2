-- Tasks of kind run, and tasks that wait for the answer to a request.
alter table deck.tasks
  add column run          uuid references public.test_runs (id) on delete cascade,  -- of a task of kind run: its id, too
  add column request      uuid,                            -- the request that ended last of those that the task waited for
  add column parked_until timestamptz,                     -- of a task that waits: when the lease of its holder's socket ends
  add column returned     boolean not null default false;  -- the request has ended, and the holder has done nothing since
create unique index tasks_run on deck.tasks (run) where run is not null;
create index requests_open_of_task on deck.requests (task) where state = 'open' and task is not null;

-- A task as its holder gets it. (The functions are in db/functions/inbox.sql.)
create type deck.given_task as (
  holder uuid, task uuid, attempt integer, lease_until timestamptz, mission_id uuid, id uuid, sender text, author text, message text,
  code_blocks text, created_at timestamp, seq bigint, key text, in_reply_to uuid, run text, request text);
