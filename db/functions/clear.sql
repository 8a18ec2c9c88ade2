-- Clearing a chat.

-- Deletes a chat's messages up to a seq and stores their keys. Waits for messages that another transaction has locked, or skips them
-- (p_skip).
create or replace function deck.remove_messages(p_mission uuid, p_citizen text, p_upto bigint, p_skip boolean) returns void language plpgsql
set search_path = pg_catalog, public, pg_temp as $$
declare
  v_ids uuid[];
begin
  if p_skip then
    select array_agg(x.id) into v_ids from (
      select c.id from public.chat_messages c
      where c.mission_id = p_mission and c.citizen = p_citizen and c.seq <= p_upto
      for update skip locked) x;
  else
    select array_agg(x.id) into v_ids from (
      select c.id from public.chat_messages c
      where c.mission_id = p_mission and c.citizen = p_citizen and c.seq <= p_upto
      for update) x;
  end if;
  with gone as (
    delete from public.chat_messages c where c.id = any (v_ids) returning coalesce(c.author, '') as author, c.key
  )
  insert into deck.cleared_keys (mission_id, citizen, author, key, cleared_at)
  select p_mission, p_citizen, g.author, g.key, clock_timestamp() at time zone 'utc'
  from gone g where g.key is not null
  on conflict (mission_id, citizen, author, key) do update set cleared_at = excluded.cleared_at;
end $$;

-- Clears a chat: followers receive chat.cleared, and the messages' keys are refused for 24 hours. Returns the seq of chat.cleared.
-- It waits for no lock while it holds the head's. So it skips messages that another transaction has locked; the caller removes them with
-- deck.remove_messages() after the commit.
create or replace function deck.clear_chat(p_mission uuid, p_citizen text, p_by text) returns bigint language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  v_chat constant text := 'missions/' || p_mission || '/chat/' || p_citizen;
  v_cleared bigint;
begin
  perform from public.missions m where m.id = p_mission for key share;
  -- Only one transaction clears a chat at a time: two could deadlock if one holds the rows and the other the head.
  perform pg_advisory_xact_lock(hashtextextended(v_chat, 0));
  -- Most messages are deleted before the head is locked. Messages that arrive in between are deleted under the lock.
  perform deck.remove_messages(p_mission, p_citizen, 9223372036854775807, false);
  insert into deck.pending (topic, mission_id, row_id, event, data)
  values (v_chat, p_mission, p_mission, 'chat.cleared', jsonb_build_object('mission_id', p_mission, 'citizen', p_citizen, 'by', p_by));
  set constraints deck.number immediate;
  select max(e.seq) into v_cleared from deck.events e where e.topic = v_chat;
  perform deck.remove_messages(p_mission, p_citizen, v_cleared, true);
  delete from deck.events e where e.topic = v_chat and e.seq < v_cleared;
  return v_cleared;
end $$;
