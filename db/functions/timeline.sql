-- Finding a topic's seq at a time. (topic.sql explains the order of a mission's events and the horizon.)

-- Returns the greatest seq of a topic that was numbered before p_moment (p_through: or at p_moment), or 0. If p_citizen is not null, it
-- searches the chat's messages, otherwise the topic's events. Times never decrease with the seq, so a binary search finds it: about 20
-- index lookups among a million rows.
create or replace function deck.seq_at(p_topic text, p_mission uuid, p_citizen text, p_moment timestamp, p_through boolean)
returns bigint language plpgsql stable as $$
declare
  v_low  bigint := 0;                        -- greatest seq known to be before the moment
  v_high bigint;                             -- smallest seq known not to be
  v_mid  bigint;
  v_seen record;
begin
  if p_moment = 'infinity' then
    return 9223372036854775807;
  end if;
  if p_moment = '-infinity' then
    return 0;
  end if;
  if p_citizen is null then
    select e.seq, e.at into v_seen from deck.events e where e.topic = p_topic order by e.seq desc limit 1;
  else
    select c.seq, c.at into v_seen from public.chat_messages c
    where c.mission_id = p_mission and c.citizen = p_citizen collate "default" and c.seq is not null order by c.seq desc limit 1;
  end if;
  if v_seen.seq is null or v_seen.at < p_moment or (p_through and v_seen.at = p_moment) then
    return coalesce(v_seen.seq, 0);
  end if;
  v_high := v_seen.seq;
  -- Starts with the first row, then halves the range.
  v_mid := 1;
  while v_low < v_mid and v_mid < v_high loop
    if p_citizen is null then
      select e.seq, e.at into v_seen from deck.events e where e.topic = p_topic and e.seq >= v_mid order by e.seq limit 1;
    else
      select c.seq, c.at into v_seen from public.chat_messages c
      where c.mission_id = p_mission and c.citizen = p_citizen collate "default" and c.seq >= v_mid order by c.seq limit 1;
    end if;
    if v_seen.at < p_moment or (p_through and v_seen.at = p_moment) then
      v_low := v_seen.seq;
    else
      v_high := v_mid;
    end if;
    v_mid := (v_low + v_high) / 2;
  end loop;
  return v_low;
end $$;
