-- What was said in error: the words of a message or of a run's log are removed from the tables, the search index and the events.

-- Takes a message back. Returns true; false if it was taken back before; null if there is no such message.
create or replace function deck.redact_message(p_mission uuid, p_citizen text, p_id uuid, p_by text, p_reason text) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  v_message public.chat_messages;
  v_now     timestamp;
begin
  -- Locks in the order of numbering.sql: tasks, then rows.
  perform from deck.tasks t where t.id = p_id for update;
  select c.* into v_message from public.chat_messages c
  where c.id = p_id and c.mission_id = p_mission and c.citizen = p_citizen and c.seq is not null for update;
  if v_message.id is null then
    return null;
  end if;
  if v_message.details ? 'redacted' then
    return false;
  end if;
  if (select q.state from deck.questions_of(array[p_id]) q) = 'waiting' then
    perform deck.cancel_question(p_mission, p_citizen, p_id);
  end if;
  v_now := deck.now();
  update public.chat_messages c
  set message = '', code_blocks = null,
    details = jsonb_build_object('redacted', jsonb_build_object('by', p_by, 'at', deck.iso(v_now)))
  where c.id = p_id;
  delete from deck.search_parts s where s.mission_id = p_mission and s.citizen = p_citizen;
  perform deck.search_renew(p_mission, p_citizen, s.last) from deck.search_blocks s
  where s.mission_id = p_mission and s.citizen = p_citizen and v_message.seq between s.first and s.last;
  delete from deck.drafts d where d.mission_id = p_mission and d.citizen = p_citizen and d.key = v_message.key;
  insert into deck.pending (topic, mission_id, row_id, event, data)
  values ('missions/' || p_mission || '/chat/' || p_citizen, p_mission, p_id, 'message.redacted',
    jsonb_build_object('id', p_id, 'seq', v_message.seq, 'by', p_by, 'at', deck.iso(v_now), 'reason', p_reason));
  insert into deck.audit (action, actor, mission_id, detail)
  values ('message.redact', p_by, p_mission,
    jsonb_build_object('citizen', p_citizen, 'id', p_id, 'seq', v_message.seq, 'reason', p_reason));
  return true;
end $$;

-- The same for operators, in the name of the login. Only the owner's role may call it. Returns whether the message was not taken back before.
create or replace function deck.redact(id uuid, reason text default null) returns boolean language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  v_mission uuid;
  v_citizen text;
begin
  if char_length(reason) not between 1 and 1000 then
    raise check_violation using message = 'reason must have 1 to 1000 characters';
  end if;
  select c.mission_id, c.citizen into v_mission, v_citizen
  from public.chat_messages c where c.id = redact.id and c.seq is not null;
  if v_mission is null then
    raise no_data_found using message = 'no such message';
  end if;
  return deck.redact_message(v_mission, v_citizen, redact.id, session_user, redact.reason);
end $$;
revoke execute on function deck.redact(uuid, text), deck.redact_message(uuid, text, uuid, text, text) from public;

-- Empties a run's log. Returns true; false if it was empty; null if there is no such run.
create or replace function deck.redact_log(p_mission uuid, p_run uuid, p_by text, p_reason text) returns boolean language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  v_log  constant text := 'missions/' || p_mission || '/tests/' || p_run || '/logs';
  v_run  public.test_runs;
  v_seq  bigint;
begin
  select t.* into v_run from public.test_runs t where t.id = p_run and t.mission_id = p_mission for update;
  if v_run.id is null then
    return null;
  end if;
  if coalesce(deck.log_text(p_mission, p_run), '') = '' and coalesce(v_run.logs, '') = '' then
    return false;
  end if;
  insert into deck.pending (topic, mission_id, row_id, event, data)
  values (v_log, p_mission, p_run, 'log.replaced', deck.log_json(p_run, p_mission, '') || jsonb_build_object(
    'redacted', jsonb_build_object('by', p_by, 'at', deck.iso(deck.now()), 'reason', p_reason)));
  set constraints deck.number immediate;
  select max(e.seq) into v_seq from deck.events e where e.topic = v_log;
  delete from deck.events e where e.topic = v_log and e.seq < v_seq;
  delete from deck.log_sizes s where s.run_id = p_run and s.seq < v_seq;
  perform deck.fold_log(p_mission, p_run);
  -- (A log of over 16 MiB is not copied, so fold_log() may have left the old text.)
  if (select t.logs from public.test_runs t where t.id = p_run) <> '' then
    raise exception 'the log was not replaced';
  end if;
  insert into deck.audit (action, actor, mission_id, detail)
  values ('log.redact', p_by, p_mission, jsonb_build_object('run', p_run, 'reason', p_reason));
  return true;
end $$;
revoke execute on function deck.redact_log(uuid, uuid, text, text) from public;
