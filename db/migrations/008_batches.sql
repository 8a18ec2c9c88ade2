-- Batches of messages as arrays, and hints by need.
--
-- Hints go by 64 channels, a mission's by the last byte of its id: an instance listens to those of the missions that its
-- sockets follow. (A channel a mission would make each session compare every notification with each of its channels.)
-- Instances of the version before hear nothing on them and catch up by their poll, every 5 s, until they are replaced.

create or replace function deck.hint_channel(topic text) returns text language sql immutable parallel safe
  return 'deck_' || (('x' || substr(topic, 44, 2))::bit(8)::integer % 64);

-- "Topic T is at least at n": a hint, never the message itself. Before it stands the instance whose batch it is ('-' for other
-- writers): it knows what it wrote. One notification a topic: to put them together took longer than to send them.
create or replace function deck.hint(topics text[], seqs bigint[]) returns void language plpgsql
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
begin
  perform pg_notify(deck.hint_channel(topic), '- ' || seq || ' ' || topic) from unnest(topics, seqs) as t (topic, seq);
end $$;

-- A batch of messages, each numbered under its topic's head. (deck.append, in 006, is what instances of the version before call.)
--
-- topics:   the chats, sorted and without doubles; chats: for each entry the place of its chat among them, from 1.
-- entries:  an array a column, in the order of one sender's messages; an array that would hold nulls only may be null.
--           assigned, if given, is whom the mission must still be assigned to; again says that a former call with this id
--           may have committed (its answer was lost); by is the admin who writes as another, for the audit.
-- wait:     how many ms to wait for each lock (then 55P03), and make missing heads; with 0, what is locked by somebody
--           else, or has no head yet, is 'busy': a batch never waits for a foreign transaction.
--
-- places:   for each topic [head, at]: its entries without another outcome have the seqs after head, in their order.
-- others:   [{ n, outcome, seq, created_at, saved }] for the rest: 'seen' (the key was used before: saved holds the first
--           message); 'cleared' (it was, and a clearing removed it less than 24 hours ago); 'gone' (no such mission, or
--           another assignee); 'busy' (nothing was done). n counts from 1.
create or replace function deck.save_messages(
  topics text[], chats integer[], ids uuid[], senders text[], authors text[], assigned text[], messages text[], blocks text[],
  keys text[], again boolean[], bys text[], wait integer, origin text, out places json, out others json)
language plpgsql
-- Its plans are kept for a session: one made while a table was small must not read all of it once it is large. The tables
-- are looked up by laterals with a limit, which are never turned into joins; what is joined comes in with the call.
-- (Left to itself Postgres plans anew for each call, as a plan for two rows looks cheaper than one for any number: 0.5 ms.)
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = on as $$
#variable_conflict use_column
declare
  free   uuid[];                             -- missions whose key share we hold
  held   text[];                             -- topics whose head we hold, and their floors
  floors bigint[];
  moment timestamp;
  known  integer[] := '{}';                  -- entries that were saved before
  before json;
  hints  integer;
begin
  if wait > 0 then
    perform set_config('lock_timeout', wait::text, true);
    select array_agg(id) into free from (
      select id from public.missions where id = any (array(select substr(t, 10, 36)::uuid from unnest(save_messages.topics) t))
      order by id for key share) x;
    insert into deck.heads (topic)
    select t from unnest(save_messages.topics) t where substr(t, 10, 36)::uuid = any (free) order by t collate "C"
    on conflict do nothing;
    select array_agg(topic), array_agg(floor) into held, floors from (
      select topic, floor from deck.heads
      where topic = any (save_messages.topics) and substr(topic, 10, 36)::uuid = any (free)
      order by topic for update) x;
  else
    with m as materialized (
      select id from public.missions where id = any (array(select substr(t, 10, 36)::uuid from unnest(save_messages.topics) t))
      order by id for key share skip locked),
    mine as materialized (select array_agg(id) as free from m)
    select (select mine.free from mine), array_agg(topic), array_agg(floor) into free, held, floors from (
      select topic, floor from deck.heads
      where topic = any (save_messages.topics) and substr(topic, 10, 36)::uuid = any ((select mine.free from mine)::uuid[])
      order by topic for update skip locked) x;
  end if;

  -- Later statements than the locks, so that they see what the former holders committed.
  moment := clock_timestamp() at time zone 'utc';
  if keys is not null or save_messages.again is not null then
    select array_agg(n::integer), json_agg(json_build_object(
        'n', n, 'outcome', case when seq is null then 'cleared' else 'seen' end,
        'seq', seq, 'created_at', deck.iso(created_at), 'saved', saved))
      into known, before
    from (
      select e.n, k.*
      from rows from (unnest(chats), unnest(ids), unnest(authors), unnest(keys), unnest(save_messages.again))
        with ordinality as e (chat, id, author, key, again, n)
      cross join lateral (select t as topic, substr(t, 10, 36)::uuid as mission, substr(t, 52) as citizen from (select topics[e.chat] as t) x) p
      left join lateral (
        select s.seq, s.created_at, json_build_object('id', s.id, 'sender', s.sender, 'author', s.author,
                 'message', s.message, 'code_blocks', s.code_blocks) as saved
        from public.chat_messages s
        where s.id = coalesce(
          (select s.id from public.chat_messages s
           where deck.key_name(s.mission_id, s.citizen, s.author, s.key) = deck.key_name(p.mission, p.citizen, e.author, e.key)
             and s.key is not null and s.seq is not null),
          case when e.again then e.id end)
        limit 1
      ) k on true
      where p.topic = any (held) and (k.seq is not null or exists (
        select from deck.cleared_keys c
        where c.mission_id = p.mission and c.citizen = p.citizen and c.author = coalesce(e.author, '') and c.key = e.key
          and c.cleared_at > moment - interval '24 hours'))
    ) x;
    known := coalesce(known, '{}');
  end if;

  perform set_config('deck.numbering', 'on', true);
  with
    place as materialized (
      select t.n, t.topic, substr(t.topic, 52) as citizen, m.id as mission, m.assigned_to, m.id = any (free) as ours,
        greatest(h.floor, c.seq, e.seq) as head, greatest(moment, c.at, e.at) as at
      from unnest(save_messages.topics) with ordinality as t (topic, n)
      left join lateral (select id, assigned_to from public.missions where id = substr(t.topic, 10, 36)::uuid limit 1) m on true
      left join unnest(held, floors) as h (topic, floor) on h.topic = t.topic
      left join lateral (
        select seq, at from public.chat_messages
        where mission_id = m.id and citizen = substr(t.topic, 52) and seq is not null
        order by seq desc limit 1) c on h.topic is not null
      left join lateral (select seq, at from deck.events where topic = h.topic order by seq desc limit 1) e on true
    ),
    inserted as (
      insert into public.chat_messages as i
        (id, mission_id, citizen, sender, author, message, code_blocks, key, created_at, seq, at)
      select e.id, p.mission, p.citizen, e.sender, e.author, e.message, e.blocks::jsonb, e.key, p.at,
             p.head + row_number() over (partition by e.chat order by e.n), p.at
      from rows from (unnest(chats), unnest(ids), unnest(senders), unnest(authors), unnest(assigned), unnest(messages),
          unnest(blocks), unnest(keys))
        with ordinality as e (chat, id, sender, author, assigned, message, blocks, key, n)
      join place p on p.n = e.chat
      where p.head is not null and (e.assigned is null or e.assigned = p.assigned_to) and e.n <> all (known)
      returning mission_id, citizen, seq
    )
  select
    (select json_agg(json_build_array(p.head, deck.iso(p.at)) order by p.n) from place p),
    (select json_agg(json_build_object('n', e.n, 'outcome',
        case when p.mission is null or (p.ours and e.assigned <> p.assigned_to) then 'gone' else 'busy' end))
     from rows from (unnest(chats), unnest(assigned)) with ordinality as e (chat, assigned, n)
     join place p on p.n = e.chat
     where (p.head is null or e.assigned <> p.assigned_to) and e.n <> all (known)),
    count(pg_notify(deck.hint_channel(topic), save_messages.origin || ' ' || seq || ' ' || topic))
    into places, others, hints
  from (
    select 'missions/' || mission_id || '/chat/' || citizen as topic, max(seq) as seq from inserted group by mission_id, citizen
  ) x;
  perform set_config('deck.numbering', 'off', true);
  if before is not null then
    others := case when others is null then before else (before::jsonb || others::jsonb)::json end;
  end if;

  if bys is not null then
    insert into deck.audit (action, actor, mission_id, detail)
    select 'message.as', e.by, m.mission_id,
           jsonb_build_object('citizen', m.citizen, 'seq', m.seq, 'sender', m.sender, 'author', m.author)
    from unnest(ids, bys) with ordinality as e (id, by, n)
    cross join lateral (select * from public.chat_messages where id = e.id limit 1) m
    where e.by is not null and e.n <> all (known);
  end if;
end $$;

-- The same as a transaction of its own; and then, looked up after the commit, as what was written is to be read by no right
-- older than itself, rights: [[mission, number, assigned_to]]; and the stamp of the epoch, as every page has it.
create or replace procedure deck.append_messages(
  topics text[], chats integer[], ids uuid[], senders text[], authors text[], assigned text[], messages text[], blocks text[],
  keys text[], again boolean[], bys text[], wait integer, origin text,
  inout places json default null, inout others json default null, inout rights json default null, inout stamp text default null)
language plpgsql as $$
#variable_conflict use_variable
begin
  select s.places, s.others into places, others
  from deck.save_messages(topics, chats, ids, senders, authors, assigned, messages, blocks, keys, again, bys, wait, origin) s;
  commit;
  select json_agg(json_build_array(m.id, m.number, m.assigned_to)), (select salt || 'deck.heads'::regclass::oid from deck.epoch_salt)
  into rights, stamp
  from public.missions m
  where m.id = any (array(select distinct substr(t, 10, 36)::uuid from unnest(topics) as t));
end $$;

-- Functions of SQL in a constraint are read and planned anew for each statement, which costs a single INSERT 0.1 ms.
create or replace function deck.valid_blocks(b jsonb) returns boolean language plpgsql immutable parallel safe as $$
begin
  return jsonb_typeof(b) = 'array' and (
    select coalesce(
      bool_and(jsonb_typeof(e) = 'object' and jsonb_typeof(e -> 'code') is not distinct from 'string'
               and coalesce(jsonb_typeof(e -> 'language'), 'null') in ('string', 'null'))
        and sum(octet_length(e ->> 'code') + coalesce(octet_length(e ->> 'language'), 0)) <= 262144, true)
    from jsonb_array_elements(case when jsonb_typeof(b) = 'array' then b else '[]' end) e);
end $$;
do $$
begin
  alter table chat_messages drop constraint chat_messages_time_valid;
  alter table chat_messages add constraint chat_messages_time_valid
    check (created_at is not null and created_at >= '0001-01-01' and created_at < '10000-01-01') not valid;
  begin
    alter table chat_messages validate constraint chat_messages_time_valid;
  exception when check_violation then
    raise notice 'old rows break chat_messages_time_valid; see deck.violations()';
  end;
end $$;

-- What is looked up for each of a statement's rows is looked up by laterals with a limit, which are never turned into joins: a
-- session that had inserted single rows kept a plan that walked through all new rows for each new row, and a COPY took for ever.
create or replace view deck.change as
  select p.id as stmt, r.ord, 'missions/' || c.mission_id || '/chat/' || c.citizen as topic,
         c.mission_id, c.id as row_id, null::text as event, null::jsonb as data
  from deck.pending p
  cross join lateral unnest(p.messages) with ordinality as r (id, ord)
  cross join lateral (
    select m.mission_id, m.citizen, m.id from public.chat_messages m where m.id = r.id and m.seq is null limit 1) c
  where p.xid = pg_current_xact_id_if_assigned() and p.messages is not null
  union all
  select p.id, 1, p.topic, p.mission_id, p.row_id, p.event, p.data
  from deck.pending p
  where p.xid = pg_current_xact_id_if_assigned() and p.messages is null
    and (p.event in ('mission.deleted', 'floor') or exists (select from public.missions m where m.id = p.mission_id));

create or replace function deck.give_seqs() returns void language plpgsql
-- Its plans are kept for a session: one made while a table was small must not read all of it once it is large. What is
-- left are nested loops over indexes.
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  moment constant timestamp := clock_timestamp() at time zone 'utc';
  hint_topics text[];
  hint_seqs   bigint[];
begin
  update deck.heads h set floor = f.floor
  from (select topic, max(data::bigint) as floor from deck.change where event = 'floor' group by topic) f
  where h.topic = f.topic and h.floor < f.floor;

  if exists (
    select from deck.change x
    cross join lateral (select * from public.chat_messages where id = x.row_id limit 1) c
    cross join lateral (
      select from deck.cleared_keys
      where mission_id = c.mission_id and citizen = c.citizen and author = coalesce(c.author, '') and key = c.key
        and cleared_at > moment - interval '24 hours' limit 1) k
    where x.event is null and c.key is not null
  ) then
    raise unique_violation using message = 'this key was used before the chat was cleared', constraint = 'chat_messages_key';
  end if;
  -- Before the index sees it: that would wait, with the heads locked, for a transaction that has removed the key's message
  -- and is still open.
  if exists (
    select from deck.change x
    cross join lateral (select * from public.chat_messages where id = x.row_id limit 1) c
    cross join lateral (
      select from public.chat_messages s
      where deck.key_name(s.mission_id, s.citizen, s.author, s.key) = deck.key_name(c.mission_id, c.citizen, c.author, c.key)
        and s.key is not null and s.seq is not null limit 1) s
    where x.event is null and c.key is not null
  ) then
    raise unique_violation using message = 'this key was used before', constraint = 'chat_messages_key';
  end if;

  perform set_config('deck.numbering', 'on', true);
  with
    change as materialized (
      select c.*, row_number() over (partition by c.topic order by c.stmt, c.ord) as nth
      from deck.change c where c.event is distinct from 'floor'
    ),
    -- Where the topic stands is looked up for the first of its changes, and handed to the others.
    x as materialized (
      select c.topic, c.row_id, c.event, c.data,
        max(h.seq) over (partition by c.topic) + c.nth as seq, max(h.at) over (partition by c.topic) as at
      from change c
      left join lateral (
        select greatest(h.floor, m.seq, e.seq) as seq, greatest(moment, m.at, e.at) as at
        from deck.heads h
        left join lateral (
          select seq, at from public.chat_messages
          where substr(c.topic, 46, 6) = '/chat/' and mission_id = c.mission_id and citizen = substr(c.topic, 52) and seq is not null
          order by seq desc limit 1) m on true
        left join lateral (select seq, at from deck.events where topic = c.topic order by seq desc limit 1) e on true
        where h.topic = c.topic
        limit 1
      ) h on c.nth = 1
    ),
    messages as (
      update public.chat_messages c set seq = x.seq, at = x.at from x where x.event is null and c.id = x.row_id
    ),
    latest as (
      select row_id, split_part(event, '.', 1) as kind, max(seq) as seq
      from x where event is not null and split_part(event, '.', 1) in ('mission', 'dod_item', 'test_run') group by 1, 2
    ),
    missions as (update public.missions  t set seq = l.seq from latest l where l.kind = 'mission'  and t.id = l.row_id),
    dods     as (update public.dod_items t set seq = l.seq from latest l where l.kind = 'dod_item' and t.id = l.row_id),
    runs     as (update public.test_runs t set seq = l.seq from latest l where l.kind = 'test_run' and t.id = l.row_id),
    events as (
      insert into deck.events (topic, seq, event, data, at)
      select topic, seq, event, data || jsonb_build_object('seq', seq), at from x where event is not null
    )
  select array_agg(topic), array_agg(seq) into hint_topics, hint_seqs
  from (select topic, max(seq) as seq from x group by topic) y;
  perform set_config('deck.numbering', 'off', true);

  delete from deck.pending where xid = pg_current_xact_id();
  perform deck.hint(hint_topics, hint_seqs);
end $$;
