-- Requests to people. Rows of deck.requests are numbered like rows of the seed's tables; their topic is missions/{mission}/requests.
--
-- deck.ask() and deck.answer() are for SQL writers. They run as their owner: a role needs `usage` on schema deck, and no table.

create or replace function deck.request_json(p_request deck.requests) returns jsonb language sql stable parallel safe
  return jsonb_build_object(
    'id', p_request.id, 'mission_id', p_request.mission_id, 'citizen', p_request.citizen, 'kind', p_request.kind,
    'title', p_request.title, 'body', p_request.body, 'options', to_jsonb(p_request.options), 'task', p_request.task,
    'expires_at', deck.iso(p_request.expires_at), 'state', p_request.state, 'answer', p_request.answer,
    'answered_by', p_request.answered_by, 'answered_at', deck.iso(p_request.answered_at), 'created_at', deck.iso(p_request.created_at),
    'seq', p_request.seq);

create or replace function deck.note_requests() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'INSERT' then
    insert into deck.pending (topic, mission_id, row_id, event, data)
    select 'missions/' || n.mission_id || '/requests', n.mission_id, n.id, 'request.created', deck.request_json(n::deck.requests)
    from new_rows n order by n.created_at, n.id;
  else
    insert into deck.pending (topic, mission_id, row_id, event, data)
    select 'missions/' || n.mission_id || '/requests', n.mission_id, n.id, 'request.' || n.state, deck.request_json(n::deck.requests)
    from new_rows n join old_rows o using (id)
    where n.state <> o.state and n.state <> 'open'
    order by n.expires_at, n.id;
    perform deck.unpark(array_agg(x.id), array_agg(x.task))
    from (
      select distinct on (n.task) n.id, n.task from new_rows n join old_rows o using (id)
      where n.state <> o.state and n.state <> 'open' and n.task is not null
      order by n.task, n.created_at desc, n.id) x
    having count(*) > 0;
  end if;
  return null;
end $$;

-- Returns whether an answer fits a request: a boolean, one of the options, or a text of 1 to 10,000 characters.
create or replace function deck.fits_request(p_kind text, p_options text[], p_answer jsonb) returns boolean language sql immutable
parallel safe
  return case p_kind
    when 'approve' then jsonb_typeof(p_answer) = 'boolean'
    when 'choose' then jsonb_typeof(p_answer) = 'string' and p_answer #>> '{}' = any (p_options)
    else jsonb_typeof(p_answer) = 'string' and char_length(p_answer #>> '{}') between 1 and 10000 end;

-- Ends an open request, if it has not expired. Returns the reason if it does not: 'missing', 'ended' or 'unfit'; otherwise null.
create or replace function deck.end_request(p_mission uuid, p_id uuid, p_state text, p_answer jsonb, p_by text) returns text language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  v_now     constant timestamp := clock_timestamp() at time zone 'utc';
  v_request deck.requests;
begin
  select r.* into v_request from deck.requests r
  where r.id = p_id and r.mission_id = coalesce(p_mission, r.mission_id) for update;
  if v_request.id is null then
    return 'missing';
  end if;
  if v_request.state <> 'open' or v_request.expires_at <= v_now then
    return 'ended';
  end if;
  if p_state = 'answered' and not deck.fits_request(v_request.kind, v_request.options, p_answer) then
    return 'unfit';
  end if;
  update deck.requests r
  set state = p_state, answer = p_answer, answered_by = case when p_state = 'answered' then p_by end,
    answered_at = case when p_state = 'answered' then v_now end
  where r.id = p_id;
  return null;
end $$;

-- Expires requests whose time has come, at most 100. Any instance calls it. Returns how many.
create or replace function deck.expire_requests() returns integer language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  v_count integer;
begin
  update deck.requests r set state = 'expired'
  where r.id = any (array(
    select d.id from deck.requests d
    where d.state = 'open' and d.expires_at <= clock_timestamp() at time zone 'utc'
    order by d.expires_at limit 100 for update skip locked));
  get diagnostics v_count = row_count;
  return v_count;
end $$;

-- Asks people, and returns the request's id. kind: 'approve', 'choose' (one of the options) or 'text'. task: the citizen's task that waits
-- for the answer; somebody must hold it. expires_in: seconds, 24 hours if null.
create or replace function deck.ask(
  mission uuid, citizen text, kind text, title text, body text default null, options text[] default null, task uuid default null,
  expires_in integer default null)
returns uuid language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_seconds constant integer := coalesce(expires_in, 86400);
  v_refused text;
  v_id      uuid;
begin
  if v_seconds not between 1 and 2592000 then
    raise check_violation using message = 'expires_in must be 1 to 2592000 seconds';
  end if;
  if ask.task is not null then
    v_refused := deck.park(ask.mission, ask.citizen, ask.task);
    if v_refused = 'missing' then
      raise check_violation using message = 'task must be a task of this citizen in this mission';
    elsif v_refused = 'free' then
      raise exception using errcode = 'DK004', message = 'nobody holds the task';
    end if;
  end if;
  insert into deck.requests (mission_id, citizen, kind, title, body, options, task, expires_at)
  values (ask.mission, ask.citizen, ask.kind, ask.title, ask.body, ask.options, ask.task,
    (now() at time zone 'utc') + make_interval(secs => v_seconds))
  returning id into v_id;
  return v_id;
end $$;

-- Answers a request in the name of the login.
create or replace function deck.answer(request uuid, answer jsonb) returns void language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_refused constant text := deck.end_request(null, answer.request, 'answered', answer.answer, session_user);
begin
  if v_refused = 'missing' then
    raise no_data_found using message = 'no such request';
  elsif v_refused = 'ended' then
    raise exception using errcode = 'DK004', message = 'the request is not open any more';
  elsif v_refused = 'unfit' then
    raise check_violation using message = 'the answer does not fit the request';
  end if;
end $$;
