-- Requests to people: a citizen asks for an approval, a choice or a text, and the first answer counts.
create function deck.valid_options(p_options text[]) returns boolean language sql immutable parallel safe
  return cardinality(p_options) between 1 and 50 and array_ndims(p_options) = 1
    and not exists (select from unnest(p_options) as o (text) where char_length(o.text) not between 1 and 200 or o.text is null)
    and cardinality(p_options) = (select count(distinct o.text) from unnest(p_options) as o (text));

create table deck.requests (
  id          uuid primary key default gen_random_uuid(),
  mission_id  uuid not null references public.missions (id) on delete cascade,
  citizen     text not null,
  kind        text not null,
  title       text not null,
  body        text,
  options     text[],
  task        uuid,                          -- the task that waits for the answer
  expires_at  timestamp not null,
  state       text not null default 'open',
  answer      jsonb,
  answered_by text,
  answered_at timestamp,
  created_at  timestamp not null default (now() at time zone 'utc'),
  seq         bigint not null default 0,
  first_seq   bigint not null default 0,     -- of its first event: an index on all events would keep writers waiting
  constraint requests_citizen_valid check (citizen collate "C" ~ '^[a-z][a-z0-9_-]{0,31}$'),
  constraint requests_kind_valid check (kind in ('approve', 'choose', 'text')),
  constraint requests_title_valid check (char_length(title) between 1 and 200),
  constraint requests_body_valid check (char_length(body) between 1 and 10000),
  constraint requests_options_valid check (case when kind = 'choose' then options is not null and deck.valid_options(options) else options is null end),
  constraint requests_state_valid check (state in ('open', 'answered', 'expired', 'withdrawn') and (state = 'answered') = (answer is not null))
);
create index requests_mission on deck.requests (mission_id, created_at desc, id desc);
create index requests_open on deck.requests (expires_at) where state = 'open';
create index requests_open_of_mission on deck.requests (mission_id, created_at desc, id desc) where state = 'open';

-- (The function is in db/functions/requests.sql.)
do $$ begin
  execute format($f$create function deck.%I() returns trigger language plpgsql as
    $b$ begin raise exception 'db/functions is not applied to this database'; end $b$ $f$, 'note_requests');
end $$;
create trigger note_inserted after insert on deck.requests referencing new table as new_rows
  for each statement execute function deck.note_requests();
create trigger note_updated after update on deck.requests referencing old table as old_rows new table as new_rows
  for each statement when (not deck.numbers()) execute function deck.note_requests();
create trigger refuse_seq before insert on deck.requests for each row
  when ((new.seq <> 0 or new.first_seq <> 0) and not deck.numbers()) execute function deck.refuse('seq is given by the database');
create trigger refuse_seq_change before update on deck.requests for each row
  when ((new.seq <> old.seq or new.first_seq <> old.first_seq) and not deck.numbers()) execute function deck.refuse('seq is given by the database');
