-- TEMPORARY: stands in for db/functions/topic.sql until the branches are merged, and is dropped then.
create or replace function deck.topic_mission(p_topic text) returns uuid
  language sql immutable parallel safe return substr(p_topic, 10, 36)::uuid;
create or replace function deck.topic_citizen(p_topic text) returns text
  language sql immutable parallel safe return substr(p_topic, 52);
create or replace function deck.topic_is_chat(p_topic text) returns boolean
  language sql immutable parallel safe return substr(p_topic, 46, 6) = '/chat/';
