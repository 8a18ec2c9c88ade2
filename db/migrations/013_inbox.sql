-- A citizen's inbox. What users write to a citizen that has asked for work is a task: found in the chats by seq, leased to one
-- socket at a time, ended by a reply (in one transaction with it) or without one, set aside after five attempts.

create table if not exists deck.inboxes (
  citizen text primary key,
  since   timestamptz not null default clock_timestamp()
);

-- Up to where a chat was looked through; a chat that is not here began after the inbox.
create table if not exists deck.inbox_chats (
  citizen    text,
  mission_id uuid,
  upto       bigint not null,
  primary key (citizen, mission_id)
);

-- No foreign keys: nobody waits for who is about to delete a mission; a task whose message is gone is forgotten.
create table if not exists deck.tasks (
  id          uuid primary key,              -- the message's
  citizen     text not null,
  mission_id  uuid not null,
  seq         bigint not null,
  at          timestamp not null,            -- when it was numbered: the oldest goes first
  attempt     integer not null default 0,
  holder      uuid,                          -- the session that has, or had, it
  lease_until timestamptz,                   -- null: nobody has it
  ready_at    timestamptz not null default clock_timestamp(),
  ended       timestamptz,                   -- kept for a day, so that who ended it may say so twice
  dead        boolean not null default false
);
create index if not exists tasks_open on deck.tasks (citizen, at, mission_id, seq) where ended is null and not dead;
create index if not exists tasks_held on deck.tasks (holder) where lease_until is not null;

-- The first time: what is in the citizen's chats by now is no task.
create or replace function deck.open_inbox(who text) returns void language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  insert into deck.inboxes (citizen) values (who) on conflict do nothing;
  if found then
    insert into deck.inbox_chats (citizen, mission_id, upto)
    select who, m.id, c.seq
    from public.missions m
    cross join lateral (
      select seq from public.chat_messages where mission_id = m.id and citizen = who and seq is not null
      order by seq desc limit 1) c
    on conflict do nothing;
  end if;
end $$;

-- Makes tasks of what came into the citizen's chats, of these missions or (null) of all, up to `most` messages a chat; true if
-- there is more. Chats are locked in order, so that each message is looked at once.
create or replace function deck.find_tasks(who text, missions uuid[], most integer) returns boolean language plpgsql
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  news uuid[];
  more boolean;
begin
  if missions is null then
    select array_agg(id) into missions from public.missions;
  end if;
  select array_agg(m.id order by m.id) into news
  from unnest(missions) as m (id)
  left join deck.inbox_chats k on k.citizen = who and k.mission_id = m.id
  cross join lateral (
    select seq from public.chat_messages where mission_id = m.id and citizen = who and seq is not null
    order by seq desc limit 1) c
  where c.seq > coalesce(k.upto, 0);
  if news is null then
    return false;
  end if;
  insert into deck.inbox_chats (citizen, mission_id, upto) select who, id, 0 from unnest(news) id on conflict do nothing;
  perform from (
    select from deck.inbox_chats where citizen = who and mission_id = any (news) order by mission_id for update) locked;
  with
    found as materialized (
      select k.mission_id, c.*
      from deck.inbox_chats k
      cross join lateral (
        select id, seq, at, sender from public.chat_messages
        where mission_id = k.mission_id and citizen = who and seq > k.upto order by seq limit most) c
      where k.citizen = who and k.mission_id = any (news)
    ),
    tasks as (
      insert into deck.tasks (id, citizen, mission_id, seq, at)
      select id, who, mission_id, seq, at from found where sender = 'user' on conflict do nothing
    ),
    seen as (select mission_id, max(seq) as upto, count(*) as n from found group by mission_id),
    moved as (
      update deck.inbox_chats k set upto = s.upto from seen s where k.citizen = who and k.mission_id = s.mission_id)
  select bool_or(n >= most) into more from seen;
  return coalesce(more, false);
end $$;

-- Leases the oldest free tasks, one for each of the holders, for `lease` seconds; `missions` and `numbers`, if given, are those that the
-- holders may see. What is locked is somebody else's.
create or replace function deck.claim_tasks(who text, holders uuid[], missions uuid[], numbers integer[], lease integer)
returns table (holder uuid, task uuid, attempt integer, lease_until timestamptz, mission_id uuid, id uuid, sender text,
  author text, message text, code_blocks text, created_at timestamp, seq bigint, key text)
language plpgsql
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
declare
  moment constant timestamptz := clock_timestamp();
begin
  -- Five attempts were enough: the fifth has been given up.
  update deck.tasks t set dead = true, lease_until = null
  where t.id = any (array(
    select id from deck.tasks
    where citizen = who and ended is null and not dead and attempt >= 5 and (lease_until is null or lease_until <= moment)
    for update skip locked));
  return query
  with
    free as materialized (
      select t.id, t.at, t.seq
      from deck.tasks t
      where t.citizen = who and t.ended is null and not t.dead and (t.lease_until is null or t.lease_until <= moment)
        and t.ready_at <= moment
        and (claim_tasks.missions is null or t.mission_id = any (claim_tasks.missions) or exists (
          select from public.missions m where m.id = t.mission_id and m.number = any (numbers)))
        and exists (select from public.chat_messages c where c.id = t.id)
      order by t.at, t.mission_id, t.seq
      limit cardinality(holders)
      for update of t skip locked
    ),
    nth as (select f.id, row_number() over (order by f.at, f.seq, f.id) as n from free f),
    taken as (
      update deck.tasks t
      set holder = holders[nth.n], attempt = t.attempt + 1, lease_until = moment + make_interval(secs => lease)
      from nth where t.id = nth.id
      returning t.id, t.holder, t.attempt, t.lease_until, nth.n
    )
  select t.holder, t.id, t.attempt, t.lease_until, c.mission_id, c.id, c.sender, c.author, c.message, c.code_blocks::text,
    c.created_at, c.seq, c.key
  from taken t
  cross join lateral (select * from public.chat_messages where id = t.id limit 1) c
  order by t.n;
end $$;

-- Batches of messages of which some are replies: deck.append_messages with, for each entry or null, the task that it ends and the
-- session that has to hold it. A task is locked before any head. An entry whose task somebody else has is 'fenced', unless its key
-- was used before; one whose task is locked is 'busy'.
create or replace procedure deck.append_replies(
  topics text[], chats integer[], ids uuid[], senders text[], authors text[], assigned text[], messages text[], blocks text[],
  keys text[], again boolean[], bys text[], wait integer, origin text, tasks uuid[], holders uuid[],
  inout places json default null, inout others json default null, inout rights json default null, inout stamp text default null)
language plpgsql as $$
#variable_conflict use_variable
declare
  held uuid[];
  busy uuid[] := '{}';
  -- Whom no mission is assigned to: an entry of his is refused.
  nobody constant text := gen_random_uuid();
  refused text[];                            -- for each entry its outcome instead of 'gone', if its task is not held
begin
  if wait > 0 then
    perform set_config('lock_timeout', wait::text, true);
    select array_agg(id) into held from (select t.id from deck.tasks t where t.id = any (tasks) order by t.id for update) x;
  else
    select array_agg(id) into held from (
      select t.id from deck.tasks t where t.id = any (tasks) order by t.id for update skip locked) x;
    select array_agg(t.id) into busy from deck.tasks t where t.id = any (tasks) and t.id <> all (coalesce(held, '{}'));
  end if;
  select array_agg(case
      when e.task is null then null
      when e.task = any (busy) then 'busy'
      when t.id is null or e.nth > 1 then 'fenced' end order by e.n),
    array_agg(case when e.task is null or (t.id is not null and e.nth = 1) then e.assigned else nobody end order by e.n)
  into refused, assigned
  from (
    select x.*, row_number() over (partition by x.task order by x.n) as nth
    from rows from (unnest(tasks), unnest(holders), unnest(chats), unnest(assigned))
      with ordinality as x (task, holder, chat, assigned, n)) e
  left join deck.tasks t on t.id = e.task and t.id = any (held) and t.holder = e.holder and t.lease_until is not null
    and t.ended is null and not t.dead and topics[e.chat] = 'missions/' || t.mission_id || '/chat/' || t.citizen;

  select s.places, s.others into places, others
  from deck.save_messages(topics, chats, ids, senders, authors, assigned, messages, blocks, keys, again, bys, wait, origin) s;
  select json_agg(case
      when o.other ->> 'outcome' = 'gone' and refused[(o.other ->> 'n')::integer] is not null
      then o.other || jsonb_build_object('outcome', refused[(o.other ->> 'n')::integer]) else o.other end)
  into others from jsonb_array_elements(others::jsonb) as o (other);

  update deck.tasks t set ended = clock_timestamp(), lease_until = null
  from unnest(tasks) with ordinality as e (id, n)
  where t.id = e.id and t.id = any (held) and refused[e.n] is null
    and not exists (select from json_array_elements(others) o where (o ->> 'n')::bigint = e.n);
  commit;
  select json_agg(json_build_array(m.id, m.number, m.assigned_to)), (select salt || 'deck.heads'::regclass::oid from deck.epoch_salt)
  into rights, stamp
  from public.missions m
  where m.id = any (array(select distinct substr(t, 10, 36)::uuid from unnest(topics) as t));
end $$;

-- Forgets what ended a day ago and what nobody can ask for any more.
create or replace function deck.tidy_inboxes() returns void language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  delete from deck.tasks t
  where t.ended < clock_timestamp() - interval '1 day'
     or not exists (select from public.chat_messages c where c.id = t.id);
  delete from deck.inbox_chats k where not exists (select from public.missions m where m.id = k.mission_id);
end $$;
