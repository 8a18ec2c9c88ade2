-- Replies name the message that they answer. (No foreign key: that message may be cleared. Readers then see null.)
alter table public.chat_messages add column in_reply_to uuid;

-- The registry of citizens. A chat with a citizen that is not registered works, too.
create table deck.citizens (
  name     text primary key check (name collate "C" ~ '^[a-z][a-z0-9_-]{0,31}$'),
  title    text not null check (char_length(title) between 1 and 200),
  about    text check (char_length(about) between 1 and 2000),
  position integer not null
);
insert into deck.citizens (name, title, position) values
  ('emma', 'Scope', 1), ('inna', 'Specification', 2), ('rafael', 'Code', 3), ('sofia', 'Quality', 4), ('maya', 'Delivery', 5);

-- When something last worked for the citizen, on any instance.
alter table deck.inboxes add column seen timestamptz;

-- The seq up to which a chat was imported while its citizen had no inbox: these messages never become tasks.
create table deck.imported_chats (
  citizen    text,
  mission_id uuid,
  upto       bigint not null,
  primary key (citizen, mission_id)
);

-- A task is a question's state. Its row is kept as long as its message, also after the task has ended.
alter table deck.tasks
  add column answered  boolean not null default false,  -- of an ended task: it ended with a reply
  add column answer    uuid,                            -- the citizen's first reply that names the question
  add column since     timestamptz,                     -- when its state began, unless a lease has run out since
  add column lease     integer,                         -- seconds for which a call of its holder renews the lease; null: the instance renews it
  add column cancelled boolean not null default false;  -- the holder was asked to stop
update deck.tasks set since = coalesce(ended, at at time zone 'utc');
alter table deck.tasks alter column since set not null, alter column since set default clock_timestamp();
create index tasks_chat on deck.tasks (mission_id, citizen, seq);
create index tasks_unfinished on deck.tasks (mission_id, citizen, seq) where ended is null;
create index tasks_closed on deck.tasks (mission_id, citizen, seq) where ended is not null and not answered;
create index tasks_failed on deck.tasks (mission_id, citizen, seq) where ended is null and (dead or attempt >= 5);
create index tasks_dead on deck.tasks (citizen, at, mission_id, seq) where ended is null and dead;
create index tasks_spent on deck.tasks (citizen) where ended is null and not dead and attempt >= 5;
create index tasks_leased on deck.tasks (citizen, lease_until) where lease_until is not null;

-- (The functions are in db/functions/questions.sql.)
do $$
declare name text;
begin
  foreach name in array array['note_answered', 'note_questions'] loop
    execute format($f$create function deck.%I() returns trigger language plpgsql as
      $b$ begin raise exception 'db/functions is not applied to this database'; end $b$ $f$, name);
  end loop;
end $$;
create trigger note_inserted after insert on deck.tasks referencing new table as new_rows
  for each statement execute function deck.note_answered();
create trigger note_updated after update on deck.tasks referencing old table as old_rows new table as new_rows
  for each statement execute function deck.note_questions();

-- `replied`: whether the message is a citizen's reply that names a message.
create or replace view deck.noted as
  select p.id as stmt, r.ord, 'missions/' || c.mission_id || '/chat/' || c.citizen as topic,
         c.mission_id, c.id as row_id, null::text as event, null::jsonb as data, c.spot, c.keyed, c.replied
  from deck.pending p
  cross join lateral unnest(p.messages) with ordinality as r (id, ord)
  cross join lateral (
    select m.mission_id, m.citizen, m.id, m.ctid as spot, m.key is not null as keyed,
           m.in_reply_to is not null and m.sender = 'citizen' as replied
    from public.chat_messages m
    where m.id = r.id and m.seq is null limit 1) c
  where p.xid = pg_current_xact_id_if_assigned() and p.messages is not null
  union all
  select p.id, 1, p.topic, p.mission_id, p.row_id, p.event, p.data, null, false, false
  from deck.pending p
  where p.xid = pg_current_xact_id_if_assigned() and p.messages is null and p.event <> 'proof'
    and (p.event in ('mission.deleted', 'floor') or exists (select from public.missions m where m.id = p.mission_id));
