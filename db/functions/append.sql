-- The writer's procedures: they save a batch of messages in one transaction. Each message gets its seq under the lock of its topic's head.
--
-- The outcome of an entry is the first one whose condition holds:
--
--   outcome   condition
--   -------   ------------------------------------------------------------------------------------------------------
--   busy      another transaction has locked the mission, the head or the task, or the topic has no head yet. Only if p_wait = 0;
--             the entry was not saved
--   seen      the key was used before, or (p_again) the id is stored: `saved` holds the stored message
--   cleared   the key belonged to a message that was removed by clearing the chat less than 24 hours ago
--   gone      the mission does not exist, or the person in p_assigned is neither its assignee nor a member
--   full      the mission has deck.most_chats() chats, and this chat is not one of them
--   fenced    the session does not hold the task that the reply ends (append_replies only)
--   astray    the message that the reply names is not in the chat (append_replies only)
--   changed   saved, but not as sent: a trigger of the database's owner changed the message, or the message that it answers was deleted
--             meanwhile. `saved` holds the stored message
--   (none)    saved: the seq follows from `places`
--
-- A call fails if a trigger prevents a message from being stored under its seq, as the topic would have a gap. (The writer then sends
-- each message alone.)
--
-- A session caches its plans. A plan that was made while a table was small must not scan the table once it is large. So tables are read
-- by lateral subqueries with a limit, which Postgres never turns into joins; only the call's own arrays are joined. The generic plan is
-- forced: otherwise Postgres plans each call again (0.5 ms), because a plan for two rows looks cheaper than the generic one.

-- The API's limit of chats per mission (the same number is in src/database/bounds). Rows inserted with SQL are not limited.
create or replace function deck.most_chats() returns integer language sql immutable return 1000;

-- p_topics:   the chats, sorted and distinct. p_chats: each entry's index in p_topics, from 1.
-- entries:    one array per column. The messages of one sender are in the order in which they were sent. An array of nulls may be null.
--             p_assigned: the person who must still be the mission's assignee or a member, or null. p_again: a previous call with this id may have
--             committed, but its answer was lost. p_bys: the admin who writes under another author's name, for the audit log.
-- p_wait:     ms to wait for each lock (then 55P03); missing heads are created. 0: does not wait; entries behind a lock are 'busy'.
-- p_origin:   the instance's name, for notifications. If deck.hints is off, no notifications are sent.
-- p_replies:  the message that each entry answers. It is stored as given.
-- p_details:  what each entry's writer did and used, as JSON text.
--
-- places:     for each topic [head, at]: its saved entries have the seqs head + 1, head + 2 … in the order of the entries.
-- others:     [{ n, outcome, seq, created_at, saved }] for entries that were not saved as sent; n counts from 1.
drop function if exists deck.save_messages(
  text[], integer[], uuid[], text[], text[], text[], text[], text[], text[], boolean[], text[], integer, text);
drop function if exists deck.save_messages(
  text[], integer[], uuid[], text[], text[], text[], text[], text[], text[], boolean[], text[], integer, text, uuid[]);
create or replace function deck.save_messages(
  p_topics text[], p_chats integer[], p_ids uuid[], p_senders text[], p_authors text[], p_assigned text[], p_messages text[],
  p_blocks text[], p_keys text[], p_again boolean[], p_bys text[], p_wait integer, p_origin text, p_replies uuid[] default null,
  p_details text[] default null, out places json, out others json)
language plpgsql
set search_path = pg_catalog, public, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = on as $$
declare
  v_free   uuid[];                           -- missions that this transaction has locked (for key share)
  v_held   text[];                           -- topics whose head this transaction has locked, and their floors
  v_floors bigint[];
  v_now    timestamp;
  v_known  integer[] := '{}';                -- entries whose outcome is 'seen' or 'cleared'
  v_before json;
  v_sent   bigint;                           -- digests of the messages as sent and as stored
  v_stored bigint;
  v_hints  integer;
  v_same   boolean;
begin
  -- 1. Locks: missions, then heads, both sorted, so that two batches can't deadlock. With p_wait = 0 locked rows are skipped. Otherwise
  -- missing heads are created.
  if p_wait > 0 then
    perform set_config('lock_timeout', p_wait::text, true);
    select array_agg(x.id) into v_free from (
      select m.id from public.missions m where m.id = any (array(select deck.topic_mission(t) from unnest(p_topics) t))
      order by m.id for key share) x;
    -- (Concurrent batches may exceed the limit by a few chats.)
    insert into deck.heads (topic)
    select n.topic
    from (
      select t as topic, row_number() over (partition by deck.topic_mission(t) order by t collate "C") as nth
      from unnest(p_topics) t
      where deck.topic_mission(t) = any (v_free) and not exists (select from deck.heads h where h.topic = t)) n
    where n.nth <= deck.most_chats() - (
      select count(*) from (
        select from deck.heads h
        where h.topic > 'missions/' || deck.topic_mission(n.topic) || '/chat/'
          and h.topic < 'missions/' || deck.topic_mission(n.topic) || '/chat0'
        limit deck.most_chats()) x)
    order by n.topic collate "C"
    on conflict do nothing;
    select array_agg(x.topic), array_agg(x.floor) into v_held, v_floors from (
      select h.topic, h.floor from deck.heads h
      where h.topic = any (p_topics) and deck.topic_mission(h.topic) = any (v_free)
      order by h.topic for update) x;
  else
    with m as materialized (
      select m.id from public.missions m where m.id = any (array(select deck.topic_mission(t) from unnest(p_topics) t))
      order by m.id for key share skip locked),
    mine as materialized (select array_agg(m.id) as free from m)
    select (select mine.free from mine), array_agg(x.topic), array_agg(x.floor) into v_free, v_held, v_floors from (
      select h.topic, h.floor from deck.heads h
      where h.topic = any (p_topics) and deck.topic_mission(h.topic) = any ((select mine.free from mine)::uuid[])
      order by h.topic for update skip locked) x;
  end if;

  -- 2. Duplicates: entries whose key or id is stored. The statements from here on start after the locks were taken. So they see all rows
  -- that the locks' previous holders committed.
  v_now := deck.now();
  if p_keys is not null or p_again is not null then
    select array_agg(x.n::integer), json_agg(json_build_object(
        'n', x.n, 'outcome', case when x.seq is null then 'cleared' else 'seen' end,
        'seq', x.seq, 'created_at', deck.iso(x.created_at), 'saved', x.saved))
      into v_known, v_before
    from (
      select e.n, k.*
      from rows from (unnest(p_chats), unnest(p_ids), unnest(p_authors), unnest(p_keys), unnest(p_again))
        with ordinality as e (chat, id, author, key, again, n)
      cross join lateral (
        select t as topic, deck.topic_mission(t) as mission, deck.topic_citizen(t) as citizen from (select p_topics[e.chat] as t) x) p
      left join lateral (
        select s.seq, s.created_at, json_build_object('id', s.id, 'sender', s.sender, 'author', s.author,
                 'message', s.message, 'code_blocks', s.code_blocks, 'in_reply_to', deck.answered_message(s),
                 'details', s.details) as saved
        from public.chat_messages s
        where s.id = coalesce(
          (select s.id from public.chat_messages s
           where deck.key_name(s.mission_id, s.citizen, s.author, s.key) = deck.key_name(p.mission, p.citizen, e.author, e.key)
             and s.key is not null and s.seq is not null),
          case when e.again then e.id end)
        limit 1
      ) k on true
      where p.topic = any (v_held) and (k.seq is not null or exists (
        select from deck.cleared_keys c
        where c.mission_id = p.mission and c.citizen = p.citizen and c.author = coalesce(e.author, '') and c.key = e.key
          and c.cleared_at > v_now - interval '24 hours'))
    ) x;
    v_known := coalesce(v_known, '{}');
  end if;

  -- 3. One statement assigns the seqs, inserts the rows and sends the notifications. An entry's seq follows its topic's latest seq; the
  -- inserted rows are not read again.
  perform set_config('deck.numbering', pg_trigger_depth()::text, true);
  with
    place as materialized (
      select t.n, t.topic, deck.topic_citizen(t.topic) as citizen, m.id as mission, m.assigned_to, m.members, m.id = any (v_free) as ours,
        greatest(h.floor, c.seq, e.seq) as head, greatest(v_now, c.at, e.at) as at
      from unnest(p_topics) with ordinality as t (topic, n)
      left join lateral (
        select m.id, m.assigned_to, m.members from public.missions m where m.id = deck.topic_mission(t.topic) limit 1) m on true
      left join unnest(v_held, v_floors) as h (topic, floor) on h.topic = t.topic
      left join lateral (
        select c.seq, c.at from public.chat_messages c
        where c.mission_id = m.id and c.citizen = deck.topic_citizen(t.topic) and c.seq is not null
        order by c.seq desc limit 1) c on h.topic is not null
      left join lateral (select e.seq, e.at from deck.events e where e.topic = h.topic order by e.seq desc limit 1) e on true
    ),
    -- (Materialized: both the insert and the digest read this, but it is joined and numbered only once.)
    entry as materialized (
      select e.id, p.mission, p.citizen, e.sender, e.author, e.message, e.blocks::jsonb as blocks, e.key,
        e.reply, e.details::jsonb as details, p.at, p.head + row_number() over (partition by e.chat order by e.n) as seq
      from rows from (unnest(p_chats), unnest(p_ids), unnest(p_senders), unnest(p_authors), unnest(p_assigned), unnest(p_messages),
          unnest(p_blocks), unnest(p_keys), unnest(p_replies), unnest(p_details))
        with ordinality as e (chat, id, sender, author, assigned, message, blocks, key, reply, details, n)
      join place p on p.n = e.chat
      where p.head is not null and (e.assigned is null or e.assigned = p.assigned_to or e.assigned = any (p.members))
        and e.n <> all (v_known)
    ),
    inserted as (
      insert into public.chat_messages as i
        (id, mission_id, citizen, sender, author, message, code_blocks, key, in_reply_to, details, created_at, seq, at)
      select e.id, e.mission, e.citizen, e.sender, e.author, e.message, e.blocks, e.key, e.reply, e.details, e.at, e.seq, e.at
      from entry e
      returning i.mission_id, i.citizen, i.seq, hash_record_extended(
        row (i.id, i.mission_id, i.citizen, i.sender, i.author, i.message, i.code_blocks, i.key, i.in_reply_to, i.details, i.created_at,
          i.seq), 0) as digest
    )
  select
    (select json_agg(json_build_array(p.head, deck.iso(p.at)) order by p.n) from place p),
    (select json_agg(json_build_object('n', e.n, 'outcome',
        case
          when p.mission is null or p.ours and e.assigned <> p.assigned_to and (e.assigned = any (p.members)) is not true then 'gone'
          when p.ours and p_wait > 0 then 'full'
          else 'busy' end))
     from rows from (unnest(p_chats), unnest(p_assigned)) with ordinality as e (chat, assigned, n)
     join place p on p.n = e.chat
     where (p.head is null or e.assigned <> p.assigned_to and (e.assigned = any (p.members)) is not true) and e.n <> all (v_known)),
    count(case when current_setting('deck.hints', true) is distinct from 'off' then
      pg_notify(deck.hint_channel(x.topic), p_origin || ' ' || x.seq || ' ' || x.topic) end),
    (select bit_xor(hash_record_extended(
        row (e.id, e.mission, e.citizen, e.sender, e.author, e.message, e.blocks, e.key, e.reply, e.details, e.at, e.seq), 0))
     from entry e),
    bit_xor(x.digest)
    into places, others, v_hints, v_sent, v_stored
  from (
    select 'missions/' || i.mission_id || '/chat/' || i.citizen as topic, max(i.seq) as seq, bit_xor(i.digest) as digest
    from inserted i group by i.mission_id, i.citizen
  ) x;
  perform set_config('deck.numbering', 'off', true);

  -- 4. Adds the outcomes of duplicates, and of messages that are not stored as sent. The batch is read again only if the digests differ,
  -- deck.touched is on, or a message that a reply names was deleted before the head was locked.
  if v_before is not null then
    others := case when others is null then v_before else (v_before::jsonb || others::jsonb)::json end;
  end if;
  -- (deck.note_stale() sets deck.touched.)
  v_same := v_sent is not distinct from v_stored and current_setting('deck.touched', true) is distinct from 'on';
  if not v_same or (p_replies is not null and exists (
      select from unnest(p_replies) r (id)
      where r.id is not null and not exists (select from public.chat_messages c where c.id = r.id)))
  then
    others := (coalesce(others::jsonb, '[]') || deck.stored_messages(p_topics, p_chats, places, others))::json;
  end if;
  -- (A trigger may have set in_reply_to.)
  if not v_same then
    perform deck.record_answers(p_ids);
  end if;

  -- 5. Audit: messages that admins wrote under another author's name.
  if p_bys is not null then
    insert into deck.audit (action, actor, mission_id, detail)
    select 'message.as', e.by, m.mission_id,
           jsonb_build_object('citizen', m.citizen, 'seq', m.seq, 'sender', m.sender, 'author', m.author)
    from unnest(p_ids, p_bys) with ordinality as e (id, by, n)
    cross join lateral (select c.* from public.chat_messages c where c.id = e.id limit 1) m
    where e.by is not null and e.n <> all (v_known);
  end if;
end $$;

-- Returns the batch's stored messages, which triggers may have changed, in the format of `others`. Entries in p_others are left out.
-- Raises check_violation if a message is not stored under its seq.
create or replace function deck.stored_messages(p_topics text[], p_chats integer[], p_places json, p_others json) returns jsonb
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  v_missing boolean;
  v_stored  jsonb;
begin
  select bool_or(c.id is null), jsonb_agg(jsonb_build_object(
      'n', e.n, 'outcome', 'changed', 'seq', e.seq, 'created_at', deck.iso(c.created_at), 'saved', jsonb_build_object(
        'id', c.id, 'sender', c.sender, 'author', c.author, 'message', c.message, 'code_blocks', c.code_blocks, 'key', c.key,
        'in_reply_to', c.answered, 'details', c.details)))
    into v_missing, v_stored
  from (
    select s.n, p_topics[s.chat] as topic,
      (p_places -> (s.chat - 1) ->> 0)::bigint + row_number() over (partition by s.chat order by s.n) as seq
    from unnest(p_chats) with ordinality as s (chat, n)
    where s.n not in (select (o ->> 'n')::bigint from json_array_elements(p_others) o)) e
  left join lateral (
    select m.*, deck.answered_message(m) as answered from public.chat_messages m
    where m.mission_id = deck.topic_mission(e.topic) and m.citizen = deck.topic_citizen(e.topic) and m.seq = e.seq limit 1) c on true;
  if v_missing then
    raise check_violation using message = 'a trigger of the database kept the message from being stored';
  end if;
  return coalesce(v_stored, '[]');
end $$;

-- The procedures below call this after their commit, so that no message is delivered by rights that are older than the message.
-- rights: [[mission, number, assigned_to, members]] of the topics' missions. stamp: that of deck.stamp().
-- (Postgres inlines the function.)
create or replace function deck.rights_of(p_topics text[]) returns table (rights json, stamp text) language sql stable as $$
  select json_agg(json_build_array(m.id, m.number, m.assigned_to, m.members)), (select s.stamp from deck.stamp() s)
  from public.missions m
  where m.id = any (array(select distinct deck.topic_mission(t) from unnest(p_topics) t))
$$;

-- Calls deck.save_messages() and commits.
create or replace procedure deck.append_messages(
  p_topics text[], p_chats integer[], p_ids uuid[], p_senders text[], p_authors text[], p_assigned text[], p_messages text[],
  p_blocks text[], p_keys text[], p_again boolean[], p_bys text[], p_wait integer, p_origin text,
  inout places json default null, inout others json default null, inout rights json default null, inout stamp text default null)
language plpgsql as $$
begin
  perform deck.mark();
  select s.places, s.others into places, others
  from deck.save_messages(p_topics, p_chats, p_ids, p_senders, p_authors, p_assigned, p_messages, p_blocks, p_keys, p_again, p_bys,
    p_wait, p_origin) s;
  commit;
  select r.rights, r.stamp into rights, stamp from deck.rights_of(p_topics) r;
end $$;

-- The same for a batch in which some entries are replies or have details. p_tasks: the task that the entry ends, or null. p_holders: the
-- session or claim that must hold the task. p_replies: the message that an entry without a task answers, or null; it must be in the chat. A task's reply answers the
-- task's message. p_details: what the entry's writer did and used, or null. Tasks are locked before any head.
drop procedure if exists deck.append_replies(
  text[], integer[], uuid[], text[], text[], text[], text[], text[], text[], boolean[], text[], integer, text, uuid[], uuid[], json, json, json,
  text);
drop procedure if exists deck.append_replies(
  text[], integer[], uuid[], text[], text[], text[], text[], text[], text[], boolean[], text[], integer, text, uuid[], uuid[], uuid[], json,
  json, json, text);
create or replace procedure deck.append_replies(
  p_topics text[], p_chats integer[], p_ids uuid[], p_senders text[], p_authors text[], p_assigned text[], p_messages text[],
  p_blocks text[], p_keys text[], p_again boolean[], p_bys text[], p_wait integer, p_origin text, p_tasks uuid[], p_holders uuid[],
  p_replies uuid[] default null, p_details text[] default null,
  inout places json default null, inout others json default null, inout rights json default null, inout stamp text default null)
language plpgsql as $$
declare
  v_replies uuid[];
  v_held uuid[];
  v_busy uuid[] := '{}';
  -- No person has this name. An entry that requires the mission to be assigned to it gets the outcome 'gone'.
  v_nobody constant text := gen_random_uuid();
  v_assigned text[];
  v_refused text[];                          -- for each entry: the outcome that replaces 'gone' if it must not be saved
begin
  select array_agg(coalesce(e.task, e.reply) order by e.n) into v_replies
  from rows from (unnest(p_tasks), unnest(p_replies)) with ordinality as e (task, reply, n);
  if p_wait > 0 then
    perform set_config('lock_timeout', p_wait::text, true);
    select array_agg(x.id) into v_held from (select t.id from deck.tasks t where t.id = any (v_replies) order by t.id for update) x;
  else
    select array_agg(x.id) into v_held from (
      select t.id from deck.tasks t where t.id = any (v_replies) order by t.id for update skip locked) x;
    select array_agg(t.id) into v_busy from deck.tasks t where t.id = any (v_replies) and t.id <> all (coalesce(v_held, '{}'));
  end if;
  select array_agg(e.refused order by e.n), array_agg(case when e.refused is null then e.assigned else v_nobody end order by e.n)
    into v_refused, v_assigned
  from (
    select x.n, x.assigned, case
        when x.answered = any (v_busy) then 'busy'
        when x.task is not null and (t.id is null or x.nth > 1) then 'fenced'
        when x.task is null and x.answered is not null and c.id is null then 'astray' end as refused
    from (
      select y.*, row_number() over (partition by y.task order by y.n) as nth, p_topics[y.chat] as topic
      from rows from (unnest(p_tasks), unnest(p_holders), unnest(v_replies), unnest(p_chats), unnest(p_assigned))
        with ordinality as y (task, holder, answered, chat, assigned, n)) x
    left join lateral (
      select t.id from deck.tasks t
      where t.id = x.task and t.id = any (v_held) and t.holder = x.holder and t.lease_until is not null
        and t.ended is null and not t.dead and t.run is null and x.topic = 'missions/' || t.mission_id || '/chat/' || t.citizen limit 1) t on true
    left join lateral (
      select c.id from public.chat_messages c
      where x.task is null and c.id = x.answered and c.mission_id = deck.topic_mission(x.topic)
        and c.citizen = deck.topic_citizen(x.topic) collate "default" and c.seq is not null limit 1) c on true) e;

  perform deck.mark();
  select s.places, s.others into places, others
  from deck.save_messages(p_topics, p_chats, p_ids, p_senders, p_authors, v_assigned, p_messages, p_blocks, p_keys, p_again, p_bys,
    p_wait, p_origin, v_replies, p_details) s;
  select json_agg(case
      when o.other ->> 'outcome' = 'gone' and v_refused[(o.other ->> 'n')::integer] is not null
      then o.other || jsonb_build_object('outcome', v_refused[(o.other ->> 'n')::integer]) else o.other end)
  into others from jsonb_array_elements(others::jsonb) as o (other);

  update deck.tasks t
  set ended = clock_timestamp(), lease_until = null, since = clock_timestamp(), answered = true,
    answer = coalesce(t.answer, case when e.sender = 'citizen' then e.reply end)
  from rows from (unnest(p_tasks), unnest(p_ids), unnest(p_senders)) with ordinality as e (id, reply, sender, n)
  where t.id = e.id and t.id = any (v_held) and v_refused[e.n] is null
    and not exists (
      select from json_array_elements(others) o where (o ->> 'n')::bigint = e.n and o ->> 'outcome' <> 'changed');
  if p_replies is not null then
    perform deck.record_answers(p_ids);
  end if;
  commit;
  select r.rights, r.stamp into rights, stamp from deck.rights_of(p_topics) r;
end $$;

-- One message, as most batches are: deck.append_messages() for an entry that is not sent again, audited or a reply to a task. It does
-- in a third of the time what is usual: the mission and the head are free, the chat has messages, the key is new. Anything else is left
-- to deck.save_messages(). (The price of a call is the number of plan nodes and expressions that are set up, not what they do.)
--
-- Returns head, at, others and stamp as the batch does: the message has the seq head + 1. number, assigned_to, members: the mission's rights.
drop procedure if exists deck.append_message(uuid, text, uuid, text, text, text, text, text, text, text, bigint, timestamp, json, integer, text, text);
create or replace procedure deck.append_message(
  p_mission uuid, p_citizen text, p_id uuid, p_sender text, p_author text, p_assigned text, p_message text, p_blocks text, p_key text,
  p_origin text,
  inout head bigint default null, inout at timestamp default null, inout others json default null, inout number integer default null,
  inout assigned_to text default null, inout stamp text default null, inout members text[] default null)
language plpgsql as $$
declare
  v_topic  constant text := 'missions/' || p_mission || '/chat/' || p_citizen;
  v_blocks constant jsonb := p_blocks;
  v_floor  bigint;
  v_set    text;
  v_now    timestamp;
  v_at     timestamp;
  v_head   bigint;
  v_same   boolean;
  v_places json;
begin
  -- The locks. (What a statement returns is computed before it locks: the clock must not be read here.)
  select h.floor, deck.mark()::text || set_config('deck.numbering', pg_trigger_depth()::text, true) into v_floor, v_set
  from public.missions m, deck.heads h
  where m.id = p_mission and h.topic = v_topic
  for key share of m skip locked for update of h skip locked;

  -- The place: after the newest message, unless a seq after it was given before.
  if v_floor is not null then
    v_now := deck.now();
    select c.seq, greatest(v_now, c.at) into v_head, v_at
    from public.chat_messages c
    where c.mission_id = p_mission and c.citizen = p_citizen
      and c.seq >= greatest(v_floor, (select e.seq from deck.events e where e.topic = v_topic order by e.seq desc limit 1))
    order by c.seq desc limit 1;
    if p_assigned is not null then
      if not exists (
          select from public.missions m
          where m.id = p_mission and (m.assigned_to = p_assigned or p_assigned = any (m.members))) then
        v_head := null;
      end if;
    end if;
    if p_key is not null then
      if exists (
          select from public.chat_messages s
          where deck.key_name(s.mission_id, s.citizen, s.author, s.key) = deck.key_name(p_mission, p_citizen, p_author, p_key)
            and s.key is not null and s.seq is not null)
        or exists (
          select from deck.cleared_keys c
          where c.mission_id = p_mission and c.citizen = p_citizen and c.author = coalesce(p_author, '') and c.key = p_key)
      then
        v_head := null;
      end if;
    end if;
  end if;

  if v_head is not null then
    insert into public.chat_messages as i (id, mission_id, citizen, sender, author, message, code_blocks, key, created_at, seq, at)
    values (p_id, p_mission, p_citizen, p_sender, p_author, p_message, v_blocks, p_key, v_at, v_head + 1, v_at)
    returning row (i.id, i.mission_id, i.citizen, i.sender, i.author, i.message, i.code_blocks, i.key, i.in_reply_to, i.created_at, i.seq)
      is not distinct from row (p_id, p_mission, p_citizen, p_sender, p_author, p_message, v_blocks, p_key, null::uuid, v_at, v_head + 1)
    into v_same;
    head := v_head;
    at := v_at;
    if current_setting('deck.hints', true) is distinct from 'off' then
      perform pg_notify(deck.hint_channel(v_topic), p_origin || ' ' || v_head + 1 || ' ' || v_topic);
    end if;
    -- (A trigger of the database's owner changed the message, or removed it; deck.note_stale() sets deck.touched.)
    if v_same is distinct from true or current_setting('deck.touched', true) = 'on' then
      others := deck.stored_messages(array[v_topic], array[1], json_build_array(json_build_array(head, deck.iso(at))), null);
      perform deck.record_answers(array[p_id]);
    end if;
  else
    perform deck.mark();
    select s.places, s.others into v_places, others
    from deck.save_messages(array[v_topic], array[1], array[p_id], array[p_sender], array[p_author], array[p_assigned], array[p_message],
      array[p_blocks], array[p_key], null, null, 0, p_origin) s;
    head := v_places -> 0 ->> 0;
    at := (v_places -> 0 ->> 1)::timestamp;
  end if;
  commit;
  select m.number, m.assigned_to, s.stamp, m.members into number, assigned_to, stamp, members
  from deck.stamp() s left join public.missions m on m.id = p_mission;
end $$;
