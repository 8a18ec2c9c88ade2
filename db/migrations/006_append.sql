-- The server's own ways to write: batches of messages, chunks of a run's log, the clearing of a chat.

-- A batch of messages, each numbered under its topic's head, in one call that is a transaction of its own.
--
-- missions: the ids, topics: the chats; each sorted and without doubles.
-- entries:  [{ n, topic, mission, citizen, id, sender, author, assigned, message, code_blocks, key, again }]; n is the
--           order of one sender's messages; assigned, if given, is whom the mission must still be assigned to; again says
--           that a former call with this id may have committed (its answer was lost).
-- wait:     how many ms to wait for each lock (then 55P03), and make missing heads; with 0, what is locked by somebody
--           else, or has no head yet, is 'busy': a batch never waits for a foreign transaction.
--
-- outcome:  'saved'; 'seen' (the key was used before: saved holds the first message); 'cleared' (it was, and a clearing
--           removed it less than 24 hours ago); 'gone' (no such mission, or another assignee); 'busy' (nothing was done).
create or replace function deck.append(missions uuid[], topics text[], entries json, wait integer)
returns table (n integer, outcome text, seq bigint, created_at text, saved json) language plpgsql
-- Its plans are kept for a session: one made while a table was small must not read all of it once it is large. The tables
-- are looked up by laterals with a limit, which are never turned into joins; what is joined comes in with the call.
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = on as $$
#variable_conflict use_column
declare
  free   uuid[];                             -- missions whose key share we hold
  held   text[];                             -- topics whose head we hold, and their floors
  floors bigint[];
  moment timestamp;
  done   json;
begin
  if wait > 0 then
    perform set_config('lock_timeout', wait::text, true);
    select array_agg(id) into free from (
      select id from public.missions where id = any (append.missions) order by id for key share) x;
    insert into deck.heads (topic)
    select t from unnest(append.topics) t where substr(t, 10, 36)::uuid = any (free) order by t collate "C"
    on conflict do nothing;
    select array_agg(topic), array_agg(floor) into held, floors from (
      select topic, floor from deck.heads
      where topic = any (append.topics) and substr(topic, 10, 36)::uuid = any (free)
      order by topic for update) x;
  else
    select array_agg(id) into free from (
      select id from public.missions where id = any (append.missions) order by id for key share skip locked) x;
    select array_agg(topic), array_agg(floor) into held, floors from (
      select topic, floor from deck.heads
      where topic = any (append.topics) and substr(topic, 10, 36)::uuid = any (free)
      order by topic for update skip locked) x;
  end if;

  -- A later statement than the locks, so that it sees what the former holders committed.
  moment := clock_timestamp() at time zone 'utc';
  perform set_config('deck.numbering', 'on', true);
  with
    head as materialized (
      select h.topic, greatest(h.floor, c.seq, e.seq) as seq, greatest(moment, c.at, e.at) as at
      from unnest(held, floors) as h (topic, floor)
      left join lateral (
        select seq, at from public.chat_messages
        where mission_id = substr(h.topic, 10, 36)::uuid and citizen = substr(h.topic, 52) and seq is not null
        order by seq desc limit 1) c on true
      left join lateral (select seq, at from deck.events where topic = h.topic order by seq desc limit 1) e on true
    ),
    entry as materialized (
      select e.n, e.topic, e.mission, e.citizen, e.id, e.sender, e.author, e.message, e.code_blocks, e.key,
        h.seq as head, h.at,
        k.seq as seen_seq, k.created_at as seen_at, k.saved,
        case
          when m.id is null or (m.id = any (free) and e.assigned is not null and e.assigned <> m.assigned_to) then 'gone'
          when h.seq is null then 'busy'
          when k.seq is not null then 'seen'
          when e.key is not null and exists (
            select from deck.cleared_keys c
            where c.mission_id = e.mission and c.citizen = e.citizen and c.author = coalesce(e.author, '') and c.key = e.key
              and c.cleared_at > moment - interval '24 hours') then 'cleared'
          else 'saved'
        end as outcome
      from json_to_recordset(append.entries) as e (
        n integer, topic text, mission uuid, citizen text, id uuid, sender text, author text, assigned text,
        message text, code_blocks jsonb, key text, again boolean)
      left join lateral (select id, assigned_to from public.missions where id = e.mission limit 1) m on true
      left join head h on h.topic = e.topic
      left join lateral (
        select s.seq, s.created_at, json_build_object('id', s.id, 'sender', s.sender, 'author', s.author,
                 'message', s.message, 'code_blocks', s.code_blocks) as saved
        from public.chat_messages s
        where s.id = coalesce(
          (select s.id from public.chat_messages s
           where deck.key_name(s.mission_id, s.citizen, s.author, s.key) = deck.key_name(e.mission, e.citizen, e.author, e.key)
             and s.key is not null and s.seq is not null),
          case when e.again then e.id end)
        limit 1
      ) k on true
    ),
    fresh as materialized (
      select e.*, e.head + row_number() over (partition by e.topic order by e.n) as seq
      from entry e where e.outcome = 'saved'
    ),
    inserted as (
      insert into public.chat_messages as i
        (id, mission_id, citizen, sender, author, message, code_blocks, key, created_at, seq, at)
      select id, mission, citizen, sender, author, message, code_blocks, key, at, seq, at from fresh
    )
  select json_agg(json_build_object(
      'n', e.n, 'outcome', e.outcome, 'topic', e.topic, 'seq', coalesce(f.seq, e.seen_seq),
      'created_at', deck.iso(coalesce(e.seen_at, f.at)), 'saved', e.saved))
    into done
    from entry e left join fresh f on f.n = e.n;
  perform set_config('deck.numbering', 'off', true);

  perform deck.hint(array_agg(t.topic), array_agg(t.seq)) from (
    select d.topic, max(d.seq) as seq
    from json_to_recordset(done) as d (topic text, outcome text, seq bigint)
    where d.outcome = 'saved' group by d.topic
  ) t;
  return query
    select d.n, d.outcome, d.seq, d.created_at, d.saved
    from json_to_recordset(done) as d (n integer, outcome text, seq bigint, created_at text, saved json);
end $$;

-- Deletes a chat's messages up to a seq and remembers their keys; those that somebody else has locked are waited for, or
-- (skip) left.
create or replace function deck.remove_messages(mission uuid, citizen text, upto bigint, skip boolean) returns void language plpgsql
set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  ids uuid[];
begin
  if skip then
    select array_agg(id) into ids from (
      select c.id from public.chat_messages c
      where c.mission_id = remove_messages.mission and c.citizen = remove_messages.citizen and c.seq <= upto
      for update skip locked) x;
  else
    select array_agg(id) into ids from (
      select c.id from public.chat_messages c
      where c.mission_id = remove_messages.mission and c.citizen = remove_messages.citizen and c.seq <= upto
      for update) x;
  end if;
  with gone as (
    delete from public.chat_messages c where c.id = any (ids) returning coalesce(c.author, '') as author, c.key
  )
  insert into deck.cleared_keys (mission_id, citizen, author, key, cleared_at)
  select remove_messages.mission, remove_messages.citizen, author, key, clock_timestamp() at time zone 'utc'
  from gone where key is not null
  on conflict (mission_id, citizen, author, key) do update set cleared_at = excluded.cleared_at;
end $$;

-- Clears a chat; followers get chat.cleared, keys stay used for 24 hours. -> its seq. Under the head's lock it waits for
-- nobody: messages that somebody else has locked are left to a remove_messages after the commit.
create or replace function deck.clear_chat(mission uuid, citizen text, by text) returns bigint language plpgsql
set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  chat constant text := 'missions/' || mission || '/chat/' || citizen;
  cleared bigint;
begin
  perform from public.missions where id = clear_chat.mission for key share;
  -- One clearing of a chat at a time: two would meet with the rows of one and the head of the other.
  perform pg_advisory_xact_lock(hashtextextended(chat, 0));
  -- Most go before the head is locked; then, under the lock, those that came meanwhile.
  perform deck.remove_messages(mission, citizen, 9223372036854775807, false);
  insert into deck.pending (topic, mission_id, row_id, event, data)
  values (chat, mission, mission, 'chat.cleared', jsonb_build_object('mission_id', mission, 'citizen', citizen, 'by', by));
  set constraints deck.number immediate;
  select max(seq) into cleared from deck.events where topic = chat;
  perform deck.remove_messages(mission, citizen, cleared, true);
  delete from deck.events where topic = chat and seq < cleared;
  return cleared;
end $$;

-- The whole log of a run: its chunks since the last replacement.
create or replace function deck.log_text(mission uuid, run uuid) returns text language sql stable as $$
  select string_agg(e.data ->> 'chunk', '' order by e.seq)
  from deck.events e
  where e.topic = 'missions/' || mission || '/tests/' || run || '/logs'
    and e.seq >= coalesce((
      select max(r.seq) from deck.events r
      where r.topic = 'missions/' || mission || '/tests/' || run || '/logs' and r.event = 'log.replaced'), 0)
$$;

-- Puts a run's log into test_runs.logs. An old row that breaks a constraint stays as it is: its log is in the events.
create or replace function deck.fold_log(mission uuid, run uuid) returns void language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  perform set_config('deck.numbering', 'on', true);
  update public.test_runs set logs = deck.log_text(mission, run), logs_upto = (
    select max(seq) from deck.events where topic = 'missions/' || mission || '/tests/' || run || '/logs')
  where id = run;
  perform set_config('deck.numbering', 'off', true);
exception when check_violation then
  null;
end $$;

-- Appends a chunk to a run's log. For those who read by SQL it is folded into test_runs.logs: at once while the log is
-- short, then whenever the number of its chunks has doubled, so that growing costs what is appended and not what is there.
create or replace function deck.append_log(mission uuid, run uuid, chunk text) returns bigint language plpgsql
set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  log constant text := 'missions/' || mission || '/tests/' || run || '/logs';
  here bigint;
  size bigint;
  upto bigint;
begin
  insert into deck.pending (topic, mission_id, row_id, event, data)
  values (log, mission, run, 'log.appended', deck.log_json(run, mission, chunk));
  set constraints deck.number immediate;
  select max(seq) into here from deck.events where topic = log;
  -- A run that somebody else is changing is left to deck.tidy(): the head is held by now.
  select coalesce(octet_length(logs), 0), logs_upto into size, upto from public.test_runs where id = run for no key update skip locked;
  if size + octet_length(chunk) <= 65536 or here >= 2 * upto then
    perform deck.fold_log(mission, run);
  else
    insert into deck.open_logs (run_id) values (run) on conflict do nothing;
  end if;
  return here;
end $$;

-- House-keeping, run by every instance now and then: logs of runs that ended, or that were silent for 10 minutes, are
-- folded into test_runs.logs for those who read by SQL; keys cleared over 24 hours ago are forgotten.
create or replace function deck.tidy() returns void language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare r record;
begin
  for r in
    select t.id, t.mission_id
    from deck.open_logs o join public.test_runs t on t.id = o.run_id
    where t.status <> 'running' or now() at time zone 'utc' - interval '10 minutes' > (
      select at from deck.events where topic = 'missions/' || t.mission_id || '/tests/' || t.id || '/logs' order by seq desc limit 1)
    for update skip locked limit 100
  loop
    perform deck.fold_log(r.mission_id, r.id);
    delete from deck.open_logs where run_id = r.id;
  end loop;
  delete from deck.cleared_keys where ctid = any (array(
    select ctid from deck.cleared_keys where cleared_at < now() at time zone 'utc' - interval '24 hours' for update skip locked));
end $$;
