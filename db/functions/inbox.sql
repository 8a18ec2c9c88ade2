-- A citizen's inbox. Once a citizen has asked for work, each user message to it becomes a task. Tasks are found in the chats by seq and
-- leased to one holder at a time: a socket's session, or a claim over HTTP. A task ends with a reply (deck.append_replies) or without one;
-- after five attempts it is marked dead.
--
-- A task that waits for the answer to a request is parked: its lease does not run out ('infinity'). When the request has ended, the holder
-- gets the task again, with the request, and a lease of 60 s (deck.unpark, deck.returned_tasks). Once the holder does something for it,
-- the lease is renewed as before; otherwise it runs out.

-- Opens a citizen's inbox. Its first tasks are the questions behind its last message in each chat (deck.find_tasks leaves out old ones).
-- Imported messages do not become tasks. (The lock waits for imports that run: deck.import_messages().)
create or replace function deck.open_inbox(p_citizen text) returns void language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  if exists (select from deck.inboxes i where i.citizen = p_citizen) then
    return;
  end if;
  perform pg_advisory_xact_lock(hashtextextended('inbox ' || p_citizen, 0));
  insert into deck.inboxes (citizen) values (p_citizen) on conflict do nothing;
  if found then
    insert into deck.inbox_chats (citizen, mission_id, upto)
    select p_citizen, m.id, greatest(c.seq, r.upto)
    from public.missions m
    left join lateral (
      select c.seq from public.chat_messages c
      where c.mission_id = m.id and c.citizen = p_citizen and c.seq is not null and c.sender = 'citizen'
      order by c.seq desc limit 1) c on true
    left join lateral (select x.upto from deck.imported_chats x where x.citizen = p_citizen and x.mission_id = m.id limit 1) r on true
    where c.seq is not null or r.upto is not null
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

-- Returns tasks as their holders get them: with the message or the run, and with the request that it waited for.
create or replace function deck.given_tasks(p_ids uuid[]) returns setof deck.given_task language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
begin
  return query
  select t.holder, t.id, t.attempt, t.lease_until, t.mission_id, c.id, c.sender, c.author, c.message, c.code_blocks::text,
    c.created_at, c.seq, c.key, c.answered, r.json, q.json, c.details::text
  from unnest(p_ids) as i (id)
  cross join lateral (select x.* from deck.tasks x where x.id = i.id limit 1) t
  left join lateral (
    select m.*, deck.answered_message(m) as answered from public.chat_messages m where m.id = t.id and t.run is null limit 1) c on true
  left join lateral (select deck.test_run_json(x)::text as json from public.test_runs x where x.id = t.run limit 1) r on true
  left join lateral (select deck.request_json(x)::text as json from deck.requests x where x.id = t.request limit 1) q on true
  where c.id is not null or r.json is not null
  order by t.at, t.mission_id, t.seq;
end $$;

-- Returns whether a worker that takes these kinds may get the task: its message may be gone.
create or replace function deck.may_give(p_task deck.tasks, p_kinds text[]) returns boolean language sql stable
  return case when p_task.run is not null then 'run' = any (p_kinds)
    else 'message' = any (p_kinds) and exists (select from public.chat_messages c where c.id = p_task.id) end;

-- Leases the oldest free tasks, one per holder, for p_lease seconds. p_missions and p_numbers, if not null, are the ids and numbers of the
-- missions that the holders may see. Locked tasks are skipped: another session is taking them.
-- p_once: not null for claims over HTTP. If true, a holder that has leased tasks already gets these again, with a new lease, and no others.
-- p_kinds: of 'message' and 'run'.
drop function if exists deck.claim_tasks(text, uuid[], uuid[], integer[], integer);
create or replace function deck.claim_tasks(
  p_citizen text, p_holders uuid[], p_missions uuid[], p_numbers integer[], p_lease integer,
  p_once boolean default null, p_kinds text[] default array['message'])
returns setof deck.given_task language plpgsql
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_now     timestamptz := clock_timestamp();
  v_ids     uuid[] := '{}';
  v_served  uuid[] := '{}';
  v_holders uuid[] := p_holders;
  v_free    uuid[];
begin
  -- A task whose fifth attempt has ended without a result is dead.
  update deck.tasks t set dead = true, since = coalesce(t.lease_until, t.since), lease_until = null
  where t.id = any (array(
    select d.id from deck.tasks d
    where d.citizen = p_citizen and d.ended is null and not d.dead and d.attempt >= 5 and (d.lease_until is null or d.lease_until <= v_now)
      and d.run is null                      -- (deck.fail_lost_runs() fails a run.)
    for update skip locked));
  if p_once then
    -- Claims with the same key take turns, on any instance. (Sorted, so that two calls never wait for each other.)
    perform pg_advisory_xact_lock(hashtextextended('claim ' || h.holder, 0))
    from (select distinct u.holder from unnest(p_holders) as u (holder) order by u.holder) h;
    v_now := clock_timestamp();
    with again as (
      update deck.tasks t
      set lease = p_lease, lease_until = greatest(t.lease_until, v_now + make_interval(secs => p_lease)), returned = false
      where t.id = any (array(
        select h.id from deck.tasks h
        where h.holder = any (p_holders) and h.lease_until is not null and h.lease_until > v_now and h.citizen = p_citizen
          and h.ended is null and h.lease_until < 'infinity'
          and (p_missions is null or h.mission_id = any (p_missions) or exists (
            select from public.missions m where m.id = h.mission_id and m.number = any (p_numbers)))
          and deck.may_give(h, p_kinds)
        order by h.id for update))
      returning t.id, t.holder)
    select coalesce(array_agg(a.id), '{}'), coalesce(array_agg(a.holder), '{}') into v_ids, v_served from again a;
    v_holders := array(select u.holder from unnest(p_holders) with ordinality as u (holder, n) where u.holder <> all (v_served) order by u.n);
  end if;
  if cardinality(v_holders) > 0 then
    with
      free as materialized (
        select t.id, t.at, t.seq
        from deck.tasks t
        where t.citizen = p_citizen and t.ended is null and not t.dead and (t.lease_until is null or t.lease_until <= v_now)
          and t.ready_at <= v_now
          and (p_missions is null or t.mission_id = any (p_missions) or exists (
            select from public.missions m where m.id = t.mission_id and m.number = any (p_numbers)))
          and deck.may_give(t, p_kinds) and (t.run is null or t.attempt < 5 and not t.cancelled)
        order by t.at, t.mission_id, t.seq
        limit cardinality(v_holders)
        for update of t skip locked
      ),
      nth as (select f.id, row_number() over (order by f.at, f.seq, f.id) as n from free f),
      taken as (
        update deck.tasks t
        set holder = v_holders[nth.n], attempt = t.attempt + 1, lease_until = v_now + make_interval(secs => p_lease), since = v_now,
          lease = case when p_once is not null then p_lease end, cancelled = false, returned = false
        from nth where t.id = nth.id
        returning t.id
      )
    select array_agg(taken.id) into v_free from taken;
  end if;
  return query select * from deck.given_tasks(v_ids || v_free);
end $$;

-- Returns to their holders tasks whose request has ended (deck.unpark), with a lease of 60 s; the others of these are left out.
create or replace function deck.returned_tasks(p_ids uuid[], p_holders uuid[]) returns setof deck.given_task language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  v_ids uuid[];
begin
  with due as (
    update deck.tasks t set lease_until = greatest(t.lease_until, clock_timestamp() + interval '60 seconds')
    from unnest(p_ids, p_holders) as a (id, holder)
    where t.id = a.id and t.holder = a.holder and t.returned and t.lease_until is not null
    returning t.id)
  select array_agg(due.id) into v_ids from due;
  return query select * from deck.given_tasks(v_ids);
end $$;

-- Renews the leases of sockets (p_lease: seconds), and tells what became of their tasks: 'parked', 'returned' (its request has ended; its
-- lease is renewed once p_active says that the holder has done something for it) or 'held'. Tasks that they lost are left out.
create or replace function deck.renew_tasks(p_ids uuid[], p_holders uuid[], p_active boolean[], p_lease integer)
returns table (id uuid, state text) language sql
set search_path = pg_catalog, pg_temp as $$
  update deck.tasks t
  set lease_until = case when t.lease_until = 'infinity' or t.returned and not a.active then t.lease_until else a.until end,
    parked_until = case when t.lease_until = 'infinity' then a.until end,
    returned = t.returned and not a.active
  from (
    select u.*, clock_timestamp() + make_interval(secs => p_lease) as until from unnest(p_ids, p_holders, p_active) as u (id, holder, active)) a
  where t.id = a.id and t.holder = a.holder and t.lease_until is not null
  returning t.id, case when t.lease_until = 'infinity' then 'parked' when t.returned then 'returned' else 'held' end
$$;

-- Notifies the holders' instances that tasks were parked, or wait no longer: '& IDS TOPIC' on the topic's channel.
create or replace function deck.hint_parked(p_ids uuid[]) returns void language sql
set search_path = pg_catalog, pg_temp as $$
  select pg_notify(deck.hint_channel(x.topic), '& ' || string_agg(x.id::text, ',') || ' ' || x.topic)
  from (
    select t.id, c.topic, row_number() over (partition by c.topic) / 100 as part
    from deck.tasks t
    cross join lateral (select 'missions/' || t.mission_id || '/chat/' || t.citizen as topic) c
    where t.id = any (p_ids)) x
  group by x.topic, x.part
$$;

-- Parks a citizen's task. Returns why not: 'missing', or 'free' (nobody holds it); otherwise null.
create or replace function deck.park(p_mission uuid, p_citizen text, p_task uuid) returns text language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  v_task deck.tasks;
begin
  select t.* into v_task from deck.tasks t
  where t.id = p_task and t.mission_id = p_mission and t.citizen = p_citizen for no key update;
  if v_task.id is null then
    return 'missing';
  end if;
  if v_task.lease_until is null then
    return 'free';
  end if;
  update deck.tasks t
  set lease_until = 'infinity', returned = false, parked_until = case when t.lease_until < 'infinity' then t.lease_until else t.parked_until end
  where t.id = p_task;
  perform deck.hint_parked(array[p_task]);
  return null;
end $$;

-- The requests have ended: their tasks, unless they wait for others, get a lease again. A holder over HTTP has 60 s; that of a socket has as
-- long as its lease would have lasted, within which its instance calls deck.returned_tasks().
create or replace function deck.unpark(p_requests uuid[], p_tasks uuid[]) returns void language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  -- (Two requests that end at the same time must not each see the other as open: the next statement sees what is committed by then.)
  perform from deck.tasks t where t.id = any (p_tasks) order by t.id for no key update;
  update deck.tasks t
  set request = a.request,
    returned = coalesce(t.lease_until = 'infinity', false),
    lease_until = case when t.lease_until is distinct from 'infinity' then t.lease_until
      when t.lease is null then greatest(t.parked_until, clock_timestamp())
      else clock_timestamp() + interval '60 seconds' end,
    parked_until = null
  from unnest(p_requests, p_tasks) as a (request, task)
  where t.id = a.task and t.ended is null
    and not exists (select from deck.requests r where r.task = t.id and r.state = 'open');
  perform deck.hint_parked(p_tasks);
end $$;

-- Checks a claim over HTTP, and renews its lease: p_lease sets the seconds (null: as before), p_within is the age in seconds at which a
-- lease is renewed (null: never). Returns no row if the citizen has no such task, or not in these missions. state:
--
--   the task                                                   state
--   ---------------------------------------------------------  ----------
--   is leased under the claim; the lease may have run out      held
--   ended under the claim                                      ended
--   was released under the claim, and nobody has taken it      released
--   any other: another holder, another attempt, set aside      lost
--
-- generation, units: of the task's draft, if the citizen or p_author (the caller) wrote it.
create or replace function deck.check_claim(
  p_citizen text, p_task uuid, p_missions uuid[], p_numbers integer[], p_holder uuid, p_attempt integer, p_author text, p_lease integer,
  p_within float8, out state text, out mission uuid, out number integer, out assigned_to text, out lease_until timestamptz,
  out cancelled boolean, out answer uuid, out answered boolean, out generation float8, out units integer)
returns setof record language plpgsql
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_now   timestamptz;
  v_until timestamptz;
  v_task  deck.tasks;
begin
  select t.* into v_task from deck.tasks t where t.id = p_task and t.citizen = p_citizen for no key update;
  v_now := clock_timestamp();
  select m.number, m.assigned_to into number, assigned_to
  from public.missions m
  where m.id = v_task.mission_id and (p_missions is null or m.id = any (p_missions) or m.number = any (p_numbers))
    and deck.may_give(v_task, array['message', 'run']);
  if not found then
    return;
  end if;
  state := case
    when v_task.holder is distinct from p_holder or v_task.attempt <> p_attempt or v_task.dead then 'lost'
    when v_task.ended is not null then 'ended'
    when v_task.lease_until is null then 'released'
    else 'held' end;
  if state = 'held' then
    v_task.lease := coalesce(p_lease, v_task.lease, 60);
    v_until := v_now + make_interval(secs => v_task.lease);
    if v_task.returned or p_lease is not null or v_task.lease_until < v_until - make_interval(secs => p_within) then
      v_task.lease_until := case when v_task.lease_until = 'infinity' then 'infinity' else v_until end;
      update deck.tasks t set lease_until = v_task.lease_until, lease = v_task.lease, returned = false where t.id = p_task;
    end if;
  end if;
  mission := v_task.mission_id;
  -- (A parked task is its holder's at least until then.)
  lease_until := case when v_task.lease_until < 'infinity' then v_task.lease_until else coalesce((
    select max(r.expires_at) at time zone 'utc' from deck.requests r where r.task = p_task and r.state = 'open'), v_now) end;
  cancelled := v_task.cancelled;
  answer := v_task.answer;
  answered := v_task.answered;
  select d.generation, d.units into generation, units
  from deck.drafts d
  where d.mission_id = v_task.mission_id and d.citizen = p_citizen and d.key = 'task:' || p_task
    and d.author in (p_citizen, p_author) and d.touched > v_now - interval '24 hours';
  return next;
end $$;

-- Returns a citizen's unfinished questions after a place, oldest first, at most p_most, in these missions or all (null). Of a citizen
-- without an inbox these are the questions that its first request for work will find.
create or replace function deck.unfinished(
  p_citizen text, p_missions uuid[], p_numbers integer[], p_at timestamp, p_mission uuid, p_seq bigint, p_most integer)
returns table (id uuid, mission_id uuid, seq bigint, at timestamp, state text, attempt integer, since timestamptz, until timestamptz,
  answer uuid, answer_seq bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  if not exists (select from deck.inboxes i where i.citizen = p_citizen) then
    return query
    select u.id, m.id, u.seq, u.since at time zone 'utc', 'waiting', 0, u.since, null::timestamptz, null::uuid, null::bigint
    from public.missions m
    cross join lateral (
      select c.sender from public.chat_messages c
      where c.mission_id = m.id and c.citizen = p_citizen and c.seq is not null order by c.seq desc limit 1) l
    cross join lateral deck.untaken(m.id, p_citizen, 9223372036854775807, 1000) u
    where l.sender = 'user' and (p_missions is null or m.id = any (p_missions) or m.number = any (p_numbers))
      and (u.since at time zone 'utc', m.id, u.seq) > (p_at, p_mission, p_seq)
    order by u.since, m.id, u.seq limit p_most;
    return;
  end if;
  return query
  select t.id, t.mission_id, t.seq, t.at, s.state, t.attempt,
    case when s.state in ('waiting', 'failed') and t.lease_until is not null then t.lease_until else t.since end,
    case when s.state = 'working' then nullif(t.lease_until, 'infinity') end, a.id, a.seq
  from (
    (select o.* from deck.tasks o
     where o.citizen = p_citizen and o.ended is null and not o.dead and (o.at, o.mission_id, o.seq) > (p_at, p_mission, p_seq)
       and (p_missions is null or o.mission_id = any (p_missions) or exists (
         select from public.missions m where m.id = o.mission_id and m.number = any (p_numbers)))
       and exists (select from public.chat_messages c where c.id = o.id)
     order by o.at, o.mission_id, o.seq limit p_most)
    union all
    (select o.* from deck.tasks o
     where o.citizen = p_citizen and o.ended is null and o.dead and (o.at, o.mission_id, o.seq) > (p_at, p_mission, p_seq)
       and (p_missions is null or o.mission_id = any (p_missions) or exists (
         select from public.missions m where m.id = o.mission_id and m.number = any (p_numbers)))
       and exists (select from public.chat_messages c where c.id = o.id)
     order by o.at, o.mission_id, o.seq limit p_most)) t
  cross join lateral (select deck.task_state(false, false, t.lease_until, t.dead, t.attempt, v_now) as state) s
  left join lateral (select c.id, c.seq from public.chat_messages c where c.id = t.answer limit 1) a on true
  order by t.at, t.mission_id, t.seq limit p_most;
end $$;

-- Returns how many of a citizen's questions are waiting, working and failed in these missions, or in all (null); each is counted up to
-- p_most.
create or replace function deck.count_unfinished(
  p_citizen text, p_missions uuid[], p_numbers integer[], p_most integer, out waiting integer, out working integer, out failed integer)
language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  if not exists (select from deck.inboxes i where i.citizen = p_citizen) then
    select count(*), 0, 0 into waiting, working, failed
    from deck.unfinished(p_citizen, p_missions, p_numbers, '-infinity', '00000000-0000-0000-0000-000000000000', 0, p_most);
    return;
  end if;
  select count(*) into working from (
    select from deck.tasks t
    where t.citizen = p_citizen and t.lease_until is not null and t.lease_until > v_now and t.ended is null
      and (p_missions is null or t.mission_id = any (p_missions) or exists (
        select from public.missions m where m.id = t.mission_id and m.number = any (p_numbers)))
      and exists (select from public.chat_messages c where c.id = t.id)
    limit p_most) x;
  select count(*) into failed from (
    (select from deck.tasks t
     where t.citizen = p_citizen and t.ended is null and t.dead
       and (p_missions is null or t.mission_id = any (p_missions) or exists (
         select from public.missions m where m.id = t.mission_id and m.number = any (p_numbers)))
       and exists (select from public.chat_messages c where c.id = t.id)
     limit p_most)
    union all
    (select from deck.tasks t
     where t.citizen = p_citizen and t.ended is null and not t.dead and t.attempt >= 5 and (t.lease_until is null or t.lease_until <= v_now)
       and (p_missions is null or t.mission_id = any (p_missions) or exists (
         select from public.missions m where m.id = t.mission_id and m.number = any (p_numbers)))
       and exists (select from public.chat_messages c where c.id = t.id)
     limit p_most)
    limit p_most) x;
  select count(*) into waiting from (
    select from deck.tasks t
    where t.citizen = p_citizen and t.ended is null and not t.dead and t.attempt < 5 and (t.lease_until is null or t.lease_until <= v_now)
      and (p_missions is null or t.mission_id = any (p_missions) or exists (
        select from public.missions m where m.id = t.mission_id and m.number = any (p_numbers)))
      and exists (select from public.chat_messages c where c.id = t.id)
    limit p_most) x;
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
  where t.id = any (v_ids) and t.run is null and not exists (select from public.chat_messages c where c.id = t.id);
  delete from deck.inbox_chats k where not exists (select from public.missions m where m.id = k.mission_id);
  delete from deck.imported_chats k where not exists (select from public.missions m where m.id = k.mission_id);
  return case when cardinality(v_ids) = 20000 then v_ids[20000] end;
end $$;
