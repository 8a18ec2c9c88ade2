-- Members of missions: they see the mission as its assignee does. The row of a former member is kept for an hour, so that lists of missions can
-- notify it.
create table deck.members (
  mission_id uuid references public.missions (id) on delete cascade,
  sub        text check (char_length(sub) between 1 and 512),
  since      timestamptz not null default now(),
  ended      timestamptz,
  primary key (mission_id, sub)
);

-- The same by mission: rights are read with each page of events.
alter table public.missions add column members text[];

-- (The function is in db/functions/access.sql.)
do $$ begin
  execute format($f$create function deck.%I() returns trigger language plpgsql as
    $b$ begin raise exception 'db/functions is not applied to this database'; end $b$ $f$, 'note_member');
end $$;
create trigger note_member after insert or update or delete on deck.members for each row execute function deck.note_member();
