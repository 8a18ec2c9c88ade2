-- The schema as it stood before the citizens' workspaces: missions, their checklist, one chat each.
-- Like every file here it is forward only and does nothing where its work was already done by hand.

create table if not exists public.missions (
  id          uuid primary key default gen_random_uuid(),
  title       text not null,
  client      text not null,
  budget      integer not null,
  deadline    timestamp not null,
  status      text not null,                 -- 'active', 'qa', 'complete'
  assigned_to text not null,
  created_at  timestamp default now()
);

create table if not exists public.dod_items (
  id           uuid primary key default gen_random_uuid(),
  mission_id   uuid not null references public.missions (id),
  text         text not null,
  category     text not null,                -- 'functional', 'non-functional', 'tests'
  completed    boolean default false,
  completed_at timestamp
);

create table if not exists public.chat_messages (
  id          uuid primary key default gen_random_uuid(),
  mission_id  uuid not null references public.missions (id),
  sender      text not null,                 -- 'user' or 'citizen'
  message     text not null,
  code_blocks jsonb,                         -- [{ language, code }]
  created_at  timestamp default now()
);
