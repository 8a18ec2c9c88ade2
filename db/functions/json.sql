-- The rows' JSON forms in the API and in events.

-- Returns a time in RFC 3339, UTC; null for null.
create or replace function deck.iso(p_time timestamp) returns text language sql stable parallel safe
  return (to_json(p_time) #>> '{}') || 'Z';

-- Returns the message that a message answers; null if it is not in the same chat, as after a clearing or by SQL.
create or replace function deck.answered_message(p_message public.chat_messages) returns uuid language sql stable parallel safe
  return case when p_message.in_reply_to is not null then (
    select c.id from public.chat_messages c
    where c.id = p_message.in_reply_to and c.mission_id = p_message.mission_id and c.citizen = p_message.citizen) end;

create or replace function deck.mission_json(p_mission public.missions) returns jsonb language sql stable parallel safe
  return jsonb_build_object(
    'id', p_mission.id, 'number', p_mission.number, 'title', p_mission.title, 'client', p_mission.client, 'budget', p_mission.budget,
    'deadline', deck.iso(p_mission.deadline), 'status', p_mission.status, 'assigned_to', p_mission.assigned_to,
    'github_url', p_mission.github_url, 'created_at', deck.iso(p_mission.created_at), 'seq', p_mission.seq);

-- `test_name` and `evidence` are present only if the item names a test.
create or replace function deck.dod_item_json(p_item public.dod_items) returns jsonb language sql stable parallel safe
  return jsonb_build_object(
    'id', p_item.id, 'mission_id', p_item.mission_id, 'text', p_item.text, 'category', p_item.category,
    'completed', coalesce(p_item.completed, false), 'completed_at', deck.iso(p_item.completed_at), 'seq', p_item.seq)
    || case when p_item.test_name is null then '{}' else jsonb_build_object(
         'test_name', p_item.test_name,
         'evidence', jsonb_build_object('run', p_item.evidence_run, 'status', p_item.evidence_status, 'at', deck.iso(p_item.evidence_at))) end
    || case when p_item.override_reason is null then '{}' else jsonb_build_object(
         'override', jsonb_build_object('reason', p_item.override_reason, 'by', p_item.override_by, 'at', deck.iso(p_item.override_at))) end;

create or replace function deck.test_run_json(p_run public.test_runs) returns jsonb language sql stable parallel safe
  return jsonb_build_object(
    'id', p_run.id, 'mission_id', p_run.mission_id, 'status', p_run.status, 'summary', p_run.summary, 'results', p_run.results,
    'created_at', deck.iso(p_run.created_at), 'seq', p_run.seq);

create or replace function deck.log_json(p_run uuid, p_mission uuid, p_chunk text) returns jsonb language sql stable parallel safe
  return jsonb_build_object('run_id', p_run, 'mission_id', p_mission, 'chunk', p_chunk);
