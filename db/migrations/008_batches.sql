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

-- A batch of messages, each numbered under its topic's head.
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
