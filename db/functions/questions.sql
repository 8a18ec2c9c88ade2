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
    or exists (
      select from deck.tasks t where t.citizen = p_citizen and t.lease_until is not null and t.lease_until > clock_timestamp()
        and t.ended is null)
$$;

-- Records that something works for these citizens.
create or replace function deck.note_listening(p_citizens text[]) returns void language sql
set search_path = pg_catalog, pg_temp as $$
  update deck.inboxes i set seen = clock_timestamp()
  where i.citizen = any (p_citizens) and (i.seen is null or i.seen < clock_timestamp() - interval '1 second')
$$;

-- Returns a chat's newest questions below p_before that have no task, at most p_most, newest first.
-- Reads backward until the place where the inbox has read to, or the citizen's last message if it has no inbox.
create or replace function deck.untaken(p_mission uuid, p_citizen text, p_before bigint, p_most integer)
returns table (id uuid, seq bigint, since timestamptz) language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_opened timestamp := (select i.since at time zone 'utc' from deck.inboxes i where i.citizen = p_citizen);
  v_upto   constant bigint := coalesce(
    (select k.upto from deck.inbox_chats k where k.citizen = p_citizen and k.mission_id = p_mission), 0);
  v_open   constant boolean := v_opened is not null;
  v_row    record;
  v_found  integer := 0;
begin
  v_opened := coalesce(v_opened, clock_timestamp() at time zone 'utc');
  for v_row in
    select c.id, c.seq, c.sender, c.created_at, c.at from public.chat_messages c
    where c.mission_id = p_mission and c.citizen = p_citizen and c.seq > v_upto
    order by c.seq desc
  loop
    if v_row.sender = 'citizen' then
      exit when not v_open;
    elsif v_row.seq < p_before and ((v_open and v_row.at >= v_opened) or v_row.created_at >= v_opened - interval '7 days')
      and not exists (select from deck.tasks t where t.id = v_row.id)
    then
      id := v_row.id;
      seq := v_row.seq;
      since := v_row.created_at at time zone 'utc';
      return next;
      v_found := v_found + 1;
      exit when v_found = p_most;
    end if;
  end loop;
end $$;

-- Returns a chat's questions below p_before, newest first, at most p_most; of a state, or of all (null); or those with these ids.
create or replace function deck.questions(p_mission uuid, p_citizen text, p_state text, p_before bigint, p_most integer, p_ids uuid[])
returns table (id uuid, seq bigint, state text, attempt integer, since timestamptz, until timestamptz, answer uuid, answer_seq bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  return query execute format($q$
    select x.id, x.seq, x.state, x.attempt, x.since, x.until, a.id, a.seq
    from (
      (select t.id, t.seq, s.state, t.attempt, t.answer,
         case when s.state in ('waiting', 'failed') and t.lease_until is not null then t.lease_until else t.since end as since,
         case when s.state = 'working' then t.lease_until end as until
       from deck.tasks t
       cross join lateral (
         select deck.task_state(t.ended is not null, t.answered, t.lease_until, t.dead, t.attempt, $6) as state) s
       where t.mission_id = $1 and t.citizen = $2 and t.seq < $4 and %s
         and exists (select from public.chat_messages c where c.id = t.id)
       order by t.seq desc limit $5)
      union all
      (select u.id, u.seq, 'waiting', 0, null, u.since, null from deck.untaken($1, $2, $4, %s) u where %s)) x
    left join lateral (select c.id, c.seq from public.chat_messages c where c.id = x.answer limit 1) a on true
    order by x.seq desc limit $5
    $q$,
    case
      when p_ids is not null then 't.id = any ($7)'
      when p_state is null then 'true'
      when p_state = 'answered' then 't.ended is not null and t.answered'
      when p_state = 'closed' then 't.ended is not null and not t.answered'
      else 't.ended is null and s.state = $3' end,
    case when p_ids is null then '$5' else 'null' end,
    case when p_ids is not null then 'u.id = any ($7)' when coalesce(p_state, 'waiting') = 'waiting' then 'true' else 'false' end)
  using p_mission, p_citizen, p_state, p_before, p_most, v_now, p_ids;
end $$;

-- Returns how many of a chat's questions are waiting, working and failed; each is counted up to p_most.
create or replace function deck.count_questions(p_mission uuid, p_citizen text, p_most integer, out waiting integer, out working integer,
  out failed integer) language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  select least(count(*) filter (where x.state = 'waiting'), p_most), least(count(*) filter (where x.state = 'working'), p_most),
      least(count(*) filter (where x.state = 'failed'), p_most)
    into waiting, working, failed
  from (
    select deck.task_state(false, false, t.lease_until, t.dead, t.attempt, v_now) as state
    from deck.tasks t
    where t.mission_id = p_mission and t.citizen = p_citizen and t.ended is null
      and exists (select from public.chat_messages c where c.id = t.id)
    limit 3 * p_most) x;
  if waiting < p_most then
    waiting := waiting + (select count(*) from deck.untaken(p_mission, p_citizen, 9223372036854775807, p_most - waiting));
  end if;
end $$;

-- Lets a failed question wait again, from attempt 0. Returns false if it has not failed.
create or replace function deck.retry_question(p_id uuid) returns boolean language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  perform from deck.tasks t where t.id = p_id for update;
  update deck.tasks t set dead = false, attempt = 0, holder = null, lease_until = null, ready_at = v_now, since = v_now, cancelled = false
  where t.id = p_id and deck.task_state(t.ended is not null, t.answered, t.lease_until, t.dead, t.attempt, v_now) = 'failed';
  return found;
end $$;

-- Closes a waiting question, or notes that the holder of a working one was asked to stop. Returns the state that the question had; null: it
-- is no question of this chat. `holder`: of a working one.
create or replace function deck.cancel_question(p_mission uuid, p_citizen text, p_id uuid, out state text, out holder uuid) language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  -- A question without a task gets one, so that no worker finds the message again.
  insert into deck.tasks (id, citizen, mission_id, seq, at, since)
  select u.id, p_citizen, p_mission, u.seq, c.at, u.since
  from public.chat_messages c
  cross join lateral (select x.* from deck.untaken(p_mission, p_citizen, c.seq + 1, 1) x where x.id = c.id) u
  where c.id = p_id and c.mission_id = p_mission and c.citizen = p_citizen
  on conflict do nothing;
  select deck.task_state(t.ended is not null, t.answered, t.lease_until, t.dead, t.attempt, v_now), t.holder into state, holder
  from deck.tasks t where t.id = p_id and t.mission_id = p_mission and t.citizen = p_citizen for update;
  if state = 'waiting' then
    update deck.tasks t set ended = v_now, lease_until = null, holder = null, since = v_now where t.id = p_id;
  elsif state = 'working' then
    update deck.tasks t set cancelled = true where t.id = p_id;
  end if;
end $$;

-- Records the citizens' replies among these messages at the questions that they name. A message without a task gets one that has ended,
-- unless the inbox has yet to find it: a reply alone ends no task.
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
      select from deck.untaken(q.mission_id, q.citizen, q.seq + 1, 1) u where u.id = q.id) as due) f
  order by q.id, r.seq
  on conflict (id) do update set answer = excluded.answer where t.answer is null;
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
  where (n.attempt, n.lease_until, n.ended, n.answered, n.answer, n.dead)
    is distinct from (o.attempt, o.lease_until, o.ended, o.answered, o.answer, o.dead)
  having count(*) > 0;
  return null;
end $$;
