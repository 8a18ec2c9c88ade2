-- A citizen's inbox. Once a citizen has asked for work, each user message to it becomes a task. Tasks are found in the chats by seq and
-- leased to one holder at a time: a socket's session, or a claim over HTTP. A task ends with a reply (deck.append_replies) or without one;
-- after five attempts it is marked dead.

-- Opens a citizen's inbox. Its first tasks are the questions behind its last message in each chat (deck.find_tasks leaves out old ones).
-- A chat that has a place already was imported: its messages do not become tasks.
create or replace function deck.open_inbox(p_citizen text) returns void language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  insert into deck.inboxes (citizen) values (p_citizen) on conflict do nothing;
  if found then
    insert into deck.inbox_chats (citizen, mission_id, upto)
    select p_citizen, m.id, c.seq
    from public.missions m
    cross join lateral (
      select c.seq from public.chat_messages c
      where c.mission_id = m.id and c.citizen = p_citizen and c.seq is not null and c.sender = 'citizen'
      order by c.seq desc limit 1) c
    on conflict do nothing;
  end if;
end $$;

-- Creates tasks from new messages in the citizen's chats, of these missions or of all (null), up to p_most messages per chat. Returns true
-- if more may follow. Chats are locked in order, so that each message is read by only one transaction. Messages that were over seven days
-- old when the inbox was opened do not become tasks.
create or replace function deck.find_tasks(p_citizen text, p_missions uuid[], p_most integer) returns boolean language plpgsql
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_missions uuid[] := p_missions;
  v_news     uuid[];
  v_more     boolean;
begin
  if v_missions is null then
    select array_agg(m.id) into v_missions from public.missions m;
  end if;
  select array_agg(m.id order by m.id) into v_news
  from unnest(v_missions) as m (id)
  left join deck.inbox_chats k on k.citizen = p_citizen and k.mission_id = m.id
  cross join lateral (
    select c.seq from public.chat_messages c where c.mission_id = m.id and c.citizen = p_citizen and c.seq is not null
    order by c.seq desc limit 1) c
  where c.seq > coalesce(k.upto, 0);
  if v_news is null then
    return false;
  end if;
  insert into deck.inbox_chats (citizen, mission_id, upto) select p_citizen, m, 0 from unnest(v_news) m on conflict do nothing;
  perform from (
    select from deck.inbox_chats k where k.citizen = p_citizen and k.mission_id = any (v_news) order by k.mission_id for update) locked;
  with
    found as materialized (
      select k.mission_id, c.*
      from deck.inbox_chats k
      cross join lateral (
        select c.id, c.seq, c.at, c.sender, c.created_at from public.chat_messages c
        where c.mission_id = k.mission_id and c.citizen = p_citizen and c.seq > k.upto order by c.seq limit p_most) c
      where k.citizen = p_citizen and k.mission_id = any (v_news)
    ),
    tasks as (
      insert into deck.tasks (id, citizen, mission_id, seq, at, since)
      select f.id, p_citizen, f.mission_id, f.seq, f.at, f.created_at at time zone 'utc'
      from found f, (select i.since at time zone 'utc' as opened from deck.inboxes i where i.citizen = p_citizen) i
      where f.sender = 'user' and (f.at >= i.opened or f.created_at >= i.opened - interval '7 days')
      order by f.id                          -- as in deck.record_answers(), so that the two can't deadlock
      on conflict do nothing
    ),
    seen as (select f.mission_id, max(f.seq) as upto, count(*) as n from found f group by f.mission_id),
    moved as (
      update deck.inbox_chats k set upto = s.upto from seen s where k.citizen = p_citizen and k.mission_id = s.mission_id)
  select bool_or(s.n >= p_most) into v_more from seen s;
  return coalesce(v_more, false);
end $$;

-- Leases the oldest free tasks, one per holder, for p_lease seconds. p_missions and p_numbers, if not null, are the ids and numbers of the
-- missions that the holders may see. Locked tasks are skipped: another session is taking them.
-- p_once: all holders are the same, and if it has leased tasks already, these are returned and no others are leased.
drop function if exists deck.claim_tasks(text, uuid[], uuid[], integer[], integer);
create or replace function deck.claim_tasks(
  p_citizen text, p_holders uuid[], p_missions uuid[], p_numbers integer[], p_lease integer, p_once boolean default null)
returns table (holder uuid, task uuid, attempt integer, lease_until timestamptz, mission_id uuid, id uuid, sender text,
  author text, message text, code_blocks text, created_at timestamp, seq bigint, key text, in_reply_to uuid)
language plpgsql
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_ids uuid[];
begin
  -- A task whose fifth attempt has ended without a result is dead.
  update deck.tasks t set dead = true, since = coalesce(t.lease_until, t.since), lease_until = null
  where t.id = any (array(
    select d.id from deck.tasks d
    where d.citizen = p_citizen and d.ended is null and not d.dead and d.attempt >= 5 and (d.lease_until is null or d.lease_until <= v_now)
    for update skip locked));
  if p_once then
    perform pg_advisory_xact_lock(hashtextextended('claim ' || p_holders[1], 0));
    select array_agg(t.id) into v_ids from deck.tasks t
    where t.holder = p_holders[1] and t.lease_until is not null and t.lease_until > v_now and t.citizen = p_citizen;
  end if;
  if v_ids is null then
    with
      free as materialized (
        select t.id, t.at, t.seq
        from deck.tasks t
        where t.citizen = p_citizen and t.ended is null and not t.dead and (t.lease_until is null or t.lease_until <= v_now)
          and t.ready_at <= v_now
          and (p_missions is null or t.mission_id = any (p_missions) or exists (
            select from public.missions m where m.id = t.mission_id and m.number = any (p_numbers)))
          and exists (select from public.chat_messages c where c.id = t.id)
        order by t.at, t.mission_id, t.seq
        limit cardinality(p_holders)
        for update of t skip locked
      ),
      nth as (select f.id, row_number() over (order by f.at, f.seq, f.id) as n from free f),
      taken as (
        update deck.tasks t
        set holder = p_holders[nth.n], attempt = t.attempt + 1, lease_until = v_now + make_interval(secs => p_lease), since = v_now,
          lease = case when p_once is not null then p_lease end, cancelled = false
        from nth where t.id = nth.id
        returning t.id
      )
    select array_agg(taken.id) into v_ids from taken;
  end if;
  return query
  select t.holder, t.id, t.attempt, t.lease_until, c.mission_id, c.id, c.sender, c.author, c.message, c.code_blocks::text,
    c.created_at, c.seq, c.key, c.answered
  from unnest(v_ids) as i (id)
  cross join lateral (select x.* from deck.tasks x where x.id = i.id limit 1) t
  cross join lateral (select m.*, deck.answered_message(m) as answered from public.chat_messages m where m.id = t.id limit 1) c
  order by t.at, t.mission_id, t.seq;
end $$;

-- Housekeeping: deletes tasks whose message or mission was deleted, among the next 20,000 after p_after. Returns the last one read; null:
-- no more.
drop function if exists deck.tidy_inboxes();
create or replace function deck.tidy_inboxes(p_after uuid default null) returns uuid language plpgsql
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_ids uuid[];
begin
  select array_agg(x.id order by x.id) into v_ids from (
    select t.id from deck.tasks t
    where t.id > coalesce(p_after, '00000000-0000-0000-0000-000000000000') order by t.id limit 20000) x;
  delete from deck.tasks t
  where t.id = any (v_ids) and not exists (select from public.chat_messages c where c.id = t.id);
  delete from deck.inbox_chats k where not exists (select from public.missions m where m.id = k.mission_id);
  return case when cardinality(v_ids) = 20000 then v_ids[20000] end;
end $$;
