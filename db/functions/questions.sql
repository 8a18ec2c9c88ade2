-- Questions: what became of the messages that users sent to a citizen.
--
--   message (sender 'user')                                                      state
--   ---------------------------------------------------------------------------  -------------------------------------------------
--   has a task that ended with a reply                                           answered
--   has a task that ended without one                                            closed
--   has a task under a lease                                                     working
--   has a task whose fifth attempt has ended without a result                    failed
--   has any other task                                                           waiting
--   has no task; the citizen has an inbox that has not read it yet               waiting: it becomes a task
--   has no task; the citizen has no inbox, has not written since, and the        waiting: the citizen's first request for work makes
--   message is at most seven days old                                            it a task
--   any other                                                                    is no question
--
-- A reply that names a message without a task makes it an answered question: deck.record_answers() adds a task that has ended.

-- The state of a task.
create or replace function deck.task_state(p_ended boolean, p_answered boolean, p_lease_until timestamptz, p_dead boolean, p_attempt integer,
  p_now timestamptz) returns text language sql immutable parallel safe
  return case
    when p_ended then case when p_answered then 'answered' else 'closed' end
    when p_lease_until > p_now then 'working'
    when p_dead or p_attempt >= 5 then 'failed'
    else 'waiting' end;

-- Returns whether something works for a citizen: it asked for tasks or called for one within the last 60 s, or it holds a lease.
create or replace function deck.listening(p_citizen text) returns boolean language sql stable
set search_path = pg_catalog, pg_temp as $$
  select exists (select from deck.inboxes i where i.citizen = p_citizen and i.seen > clock_timestamp() - interval '60 seconds')
    or exists (select from deck.run_workers w where w.citizen = p_citizen and w.seen > clock_timestamp() - interval '60 seconds')
    -- (Only a task that has not ended is leased. With `ended is null` another index may be used, that of all unfinished tasks.)
    or exists (
      select from deck.tasks t
      where t.citizen = p_citizen and t.lease_until is not null and t.lease_until > statement_timestamp() and t.lease_until < 'infinity')
$$;

-- Records that something works for these citizens.
create or replace function deck.note_listening(p_citizens text[]) returns void language sql
set search_path = pg_catalog, pg_temp as $$
  update deck.inboxes i set seen = clock_timestamp()
  where i.citizen = any (p_citizens) and (i.seen is null or i.seen < clock_timestamp() - interval '1 second')
$$;

-- Returns a chat's newest questions below p_before that have no task, at most p_most, newest first: the messages behind the place where the
-- inbox has read to, or behind the citizen's last message if it has no inbox. (Then no message counts that was numbered over seven days ago.)
create or replace function deck.untaken(p_mission uuid, p_citizen text, p_before bigint, p_most integer)
returns table (id uuid, seq bigint, since timestamptz) language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_opened constant timestamp := (select i.since at time zone 'utc' from deck.inboxes i where i.citizen = p_citizen);
  v_oldest constant timestamp := coalesce(v_opened, clock_timestamp() at time zone 'utc') - interval '7 days';
  v_after  bigint := coalesce((select k.upto from deck.inbox_chats k where k.citizen = p_citizen and k.mission_id = p_mission), 0);
  v_stop   bigint;
  v_least  bigint;
  v_rows   bigint;
  v_good   bigint;
begin
  if v_opened is null then
    if exists (
        select from public.chat_messages c
        where c.mission_id = p_mission and c.citizen = p_citizen and c.seq >= p_before and c.sender = 'citizen') then
      return;
    end if;
    -- Usually the page's own messages show where it ends; otherwise that place is further back.
    select max(w.seq) filter (where w.sender = 'citizen' or w.at < v_oldest), min(w.seq), count(*),
        count(*) filter (where w.created_at >= v_oldest and not exists (select from deck.tasks t where t.id = w.id))
      into v_stop, v_least, v_rows, v_good
    from (
      select c.id, c.seq, c.sender, c.created_at, c.at from public.chat_messages c
      where c.mission_id = p_mission and c.citizen = p_citizen and c.seq > v_after and c.seq < p_before
      order by c.seq desc limit p_most) w;
    if v_stop is null and v_rows = p_most then
      v_stop := case when v_good = p_most then v_least - 1 else (
        select c.seq from public.chat_messages c
        where c.mission_id = p_mission and c.citizen = p_citizen and c.seq > v_after and c.seq < v_least
          and (c.sender = 'citizen' or c.at < v_oldest)
        order by c.seq desc limit 1) end;
    end if;
    v_after := greatest(v_after, v_stop);
  end if;
  return query
  select c.id, c.seq, c.created_at at time zone 'utc'
  from public.chat_messages c
  where c.mission_id = p_mission and c.citizen = p_citizen and c.seq > v_after and c.seq < p_before and c.sender = 'user'
    and (c.created_at >= v_oldest or c.at >= v_opened)
    and not exists (select from deck.tasks t where t.id = c.id)
  order by c.seq desc limit p_most;
end $$;

-- Returns those of these messages that are questions without a task: deck.untaken() by id.
create or replace function deck.untaken_of(p_ids uuid[])
returns table (id uuid, mission_id uuid, citizen text, seq bigint, at timestamp, since timestamptz) language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_now constant timestamp := clock_timestamp() at time zone 'utc';
begin
  return query
  select c.id, c.mission_id, c.citizen::text, c.seq, c.at, c.created_at at time zone 'utc'
  from unnest(p_ids) as i (id)
  cross join lateral (
    select m.* from public.chat_messages m where m.id = i.id and m.sender = 'user' and m.seq is not null limit 1) c
  left join lateral (select b.since at time zone 'utc' as opened from deck.inboxes b where b.citizen = c.citizen limit 1) b on true
  where c.seq > coalesce((select k.upto from deck.inbox_chats k where k.citizen = c.citizen and k.mission_id = c.mission_id), 0)
    and (c.created_at >= coalesce(b.opened, v_now) - interval '7 days' or c.at >= b.opened)
    and (b.opened is not null or not exists (
      select from public.chat_messages m
      where m.mission_id = c.mission_id and m.citizen = c.citizen and m.seq > c.seq and m.sender = 'citizen'))
    and not exists (select from deck.tasks t where t.id = c.id);
end $$;

-- Returns a task as a question. `since` is when its state began: a lapse of its lease changes the state without a write.
create or replace function deck.task_question(p_task deck.tasks, p_now timestamptz)
returns table (id uuid, seq bigint, state text, attempt integer, since timestamptz, until timestamptz, answer uuid, answer_seq bigint)
language sql stable as $$
  select p_task.id, p_task.seq, s.state, p_task.attempt,
    case when s.state in ('waiting', 'failed') and p_task.lease_until is not null then p_task.lease_until else p_task.since end,
    case when s.state = 'working' then nullif(p_task.lease_until, 'infinity') end, a.id, a.seq
  from (
    select deck.task_state(p_task.ended is not null, p_task.answered, p_task.lease_until, p_task.dead, p_task.attempt, p_now) as state) s
  left join lateral (select c.id, c.seq from public.chat_messages c where c.id = p_task.answer limit 1) a on true
$$;

-- Returns those of these messages that are questions.
create or replace function deck.questions_of(p_ids uuid[])
returns table (mission_id uuid, citizen text, id uuid, seq bigint, state text, attempt integer, since timestamptz, until timestamptz,
  answer uuid, answer_seq bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  return query
  select (t.task).mission_id, (t.task).citizen, q.*
  from unnest(p_ids) as i (id)
  cross join lateral (
    select x as task from deck.tasks x
    where x.id = i.id and exists (select from public.chat_messages c where c.id = x.id) limit 1) t
  cross join lateral deck.task_question(t.task, v_now) q
  union all
  select u.mission_id, u.citizen, u.id, u.seq, 'waiting', 0, u.since, null, null, null from deck.untaken_of(p_ids) u;
end $$;

-- Returns a chat's questions below p_before, newest first, at most p_most; of a state, or of all (null).
create or replace function deck.questions(p_mission uuid, p_citizen text, p_state text, p_before bigint, p_most integer)
returns table (id uuid, seq bigint, state text, attempt integer, since timestamptz, until timestamptz, answer uuid, answer_seq bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  -- (Each state has its own index. A citizen's leases are few, so working questions are sorted.)
  return query execute format($q$
    select q.* from (
      select t.task from (select w as task, w.* from deck.tasks w %s) t
      where t.mission_id = $1 and t.citizen = $2 and t.seq < $4 and %s
        and exists (select from public.chat_messages c where c.id = t.id)
      order by t.seq desc limit $5) t
    cross join lateral deck.task_question(t.task, $6) q
    %s
    order by 2 desc limit $5
    $q$,
    case when p_state = 'working' then 'where w.citizen = $2 and w.lease_until is not null and w.lease_until > $6 offset 0' else '' end,
    case p_state
      when 'waiting' then 't.ended is null and not t.dead and t.attempt < 5 and (t.lease_until is null or t.lease_until <= $6)'
      when 'working' then 't.ended is null'
      when 'failed' then 't.ended is null and (t.dead or t.attempt >= 5) and (t.lease_until is null or t.lease_until <= $6)'
      when 'answered' then 't.ended is not null and t.answered'
      when 'closed' then 't.ended is not null and not t.answered'
      else 'true' end,
    case when coalesce(p_state, 'waiting') = 'waiting'
      then 'union all select u.id, u.seq, ''waiting'', 0, u.since, null, null, null from deck.untaken($1, $2, $4, $5) u' else '' end)
  using p_mission, p_citizen, p_state, p_before, p_most, v_now;
end $$;

-- Returns how many of a chat's questions are waiting, working and failed; each is counted up to p_most.
create or replace function deck.count_questions(p_mission uuid, p_citizen text, p_most integer, out waiting integer, out working integer,
  out failed integer) language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  select count(*) into waiting from (
    select from deck.tasks t
    where t.mission_id = p_mission and t.citizen = p_citizen and t.ended is null and not t.dead and t.attempt < 5
      and (t.lease_until is null or t.lease_until <= v_now) and exists (select from public.chat_messages c where c.id = t.id)
    limit p_most) x;
  select count(*) into working from (
    select from (
      select * from deck.tasks w where w.citizen = p_citizen and w.lease_until is not null and w.lease_until > v_now offset 0) t
    where t.mission_id = p_mission and t.ended is null and exists (select from public.chat_messages c where c.id = t.id)
    limit p_most) x;
  select count(*) into failed from (
    select from deck.tasks t
    where t.mission_id = p_mission and t.citizen = p_citizen and t.ended is null and (t.dead or t.attempt >= 5)
      and (t.lease_until is null or t.lease_until <= v_now) and exists (select from public.chat_messages c where c.id = t.id)
    limit p_most) x;
  if waiting < p_most then
    waiting := waiting + (select count(*) from deck.untaken(p_mission, p_citizen, 9223372036854775807, p_most - waiting));
  end if;
end $$;

-- Lets a failed question wait again, from attempt 0. Returns the state that it had; null: it is no question of this chat.
create or replace function deck.retry_question(p_mission uuid, p_citizen text, p_id uuid) returns text language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  v_now   constant timestamptz := clock_timestamp();
  v_state text;
begin
  perform from deck.tasks t where t.id = p_id for update;
  select q.state into v_state from deck.questions_of(array[p_id]) q where q.mission_id = p_mission and q.citizen = p_citizen;
  if v_state = 'failed' then
    update deck.tasks t set dead = false, attempt = 0, holder = null, lease_until = null, ready_at = v_now, since = v_now, cancelled = false
    where t.id = p_id;
  end if;
  return v_state;
end $$;

-- Closes a waiting question, or notes that the holder of a working one was asked to stop. Returns the state that the question had; null: it
-- is no question of this chat. `holder`: of a working one.
create or replace function deck.cancel_question(p_mission uuid, p_citizen text, p_id uuid, out state text, out holder uuid) language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  -- A question without a task gets one, so that no worker finds the message again.
  insert into deck.tasks (id, citizen, mission_id, seq, at, since)
  select u.id, u.citizen, u.mission_id, u.seq, u.at, u.since from deck.untaken_of(array[p_id]) u
  where u.mission_id = p_mission and u.citizen = p_citizen
  on conflict do nothing;
  perform from deck.tasks t where t.id = p_id for update;
  select q.state, t.holder into state, holder
  from deck.questions_of(array[p_id]) q join deck.tasks t on t.id = q.id where q.mission_id = p_mission and q.citizen = p_citizen;
  if state = 'waiting' then
    update deck.tasks t set ended = clock_timestamp(), lease_until = null, holder = null, since = clock_timestamp() where t.id = p_id;
  elsif state = 'working' then
    update deck.tasks t set cancelled = true where t.id = p_id;
  end if;
end $$;

-- Records the citizens' replies among these messages at the questions that they name. A message without a task gets one that has ended,
-- unless the inbox has yet to find it: a reply alone ends no task.
--
-- The caller has locked the chats' heads, and before them the tasks that existed. It waits for no other task: a transaction that has
-- locked a task which was created since may wait for a head. That transaction records a reply of its own.
create or replace function deck.record_answers(p_ids uuid[]) returns void language plpgsql
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  insert into deck.tasks as t (id, citizen, mission_id, seq, at, since, ended, answered, answer)
  select distinct on (q.id) q.id, q.citizen, q.mission_id, q.seq, q.at,
    case when f.due then q.created_at at time zone 'utc' else v_now end, case when f.due then null else v_now end, not f.due, r.id
  from unnest(p_ids) as i (id)
  cross join lateral (
    select c.* from public.chat_messages c
    where c.id = i.id and c.sender = 'citizen' and c.in_reply_to is not null and c.seq is not null limit 1) r
  cross join lateral (
    select c.* from public.chat_messages c
    where c.id = r.in_reply_to and c.mission_id = r.mission_id and c.citizen = r.citizen and c.sender = 'user' and c.seq is not null
    limit 1) q
  cross join lateral (
    select exists (select from deck.inboxes b where b.citizen = q.citizen) and exists (
      select from deck.untaken_of(array[q.id])) as due) f
  order by q.id, r.seq
  on conflict do nothing;
  update deck.tasks t set answer = x.answer
  from (
    select distinct on (q.id) q.id, r.id as answer
    from unnest(p_ids) as i (id)
    cross join lateral (
      select c.* from public.chat_messages c
      where c.id = i.id and c.sender = 'citizen' and c.in_reply_to is not null and c.seq is not null limit 1) r
    cross join lateral (
      select k.id from deck.tasks k
      where k.id = r.in_reply_to and k.mission_id = r.mission_id and k.citizen = r.citizen and k.answer is null
      for update skip locked) q
    order by q.id, r.seq) x
  where t.id = x.id;
end $$;

-- Notifies that questions may have changed: '? IDS TOPIC' on the topic's channel, with up to 100 ids separated by commas. Instances read the
-- questions themselves.
create or replace function deck.hint_questions(p_ids uuid[], p_missions uuid[], p_citizens text[]) returns void language sql
set search_path = pg_catalog, pg_temp as $$
  select pg_notify(deck.hint_channel(x.topic), '? ' || string_agg(x.id::text, ',') || ' ' || x.topic)
  from (
    select t.topic, c.id, row_number() over (partition by t.topic) / 100 as part
    from unnest(p_ids, p_missions, p_citizens) as c (id, mission, citizen)
    cross join lateral (select 'missions/' || c.mission || '/chat/' || c.citizen as topic) t) x
  group by x.topic, x.part
$$;

-- Triggers of deck.tasks. (A new task that waits changes nothing: the question was waiting before.)
create or replace function deck.note_answered() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  perform deck.hint_questions(array_agg(n.id), array_agg(n.mission_id), array_agg(n.citizen))
  from new_rows n where n.ended is not null or n.answer is not null having count(*) > 0;
  return null;
end $$;
create or replace function deck.note_questions() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  perform deck.hint_questions(array_agg(n.id), array_agg(n.mission_id), array_agg(n.citizen))
  from new_rows n join old_rows o on o.id = n.id
  where n.run is null and (n.attempt, n.lease_until, n.ended, n.answered, n.answer, n.dead)
    is distinct from (o.attempt, o.lease_until, o.ended, o.answered, o.answer, o.dead)
  having count(*) > 0;
  return null;
end $$;
