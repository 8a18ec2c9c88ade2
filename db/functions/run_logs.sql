-- Run logs of any size. Each chunk's byte position is stored, so that a part of a log is read without the preceding chunks. Logs that SQL
-- writes are split into pieces of at most 256 KiB. test_runs.logs holds a copy of the log up to 16 MiB, so that no append rewrites more.

-- Splits a text into pieces of at most 256 KiB of UTF-8, between characters. The empty text is one piece.
create or replace function deck.pieces(p_text text) returns setof text language plpgsql immutable
set search_path = pg_catalog, pg_temp as $$
declare
  v_most constant integer := 262144;
  v_size constant integer := octet_length(p_text);
  v_bytes bytea;
  v_here integer := 0;
  v_upto integer;
begin
  if v_size <= v_most then
    return next p_text;
    return;
  end if;
  v_bytes := convert_to(p_text, 'UTF8');
  while v_here < v_size loop
    v_upto := least(v_here + v_most, v_size);
    while v_upto < v_size and get_byte(v_bytes, v_upto) & 192 = 128 loop
      v_upto := v_upto - 1;
    end loop;
    return next convert_from(substr(v_bytes, v_here + 1, v_upto - v_here), 'UTF8');
    v_here := v_upto;
  end loop;
end $$;

-- A row trigger: a statement trigger with transition tables can have no column list, and would run for updates that do not set the logs.
create or replace function deck.note_logs() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_before   constant text := case when tg_op = 'UPDATE' then coalesce(old.logs, '') else '' end;
  v_after    constant text := coalesce(new.logs, '');
  v_extended constant boolean := starts_with(v_after, v_before);
begin
  if v_after = v_before then
    return null;
  end if;
  insert into deck.pending (topic, mission_id, row_id, event, data)
  select 'missions/' || new.mission_id || '/tests/' || new.id || '/logs', new.mission_id, new.id,
         case when v_extended or p.n > 1 then 'log.appended' else 'log.replaced' end, deck.log_json(new.id, new.mission_id, p.piece)
  from deck.pieces(case when v_extended and v_before <> '' then substr(v_after, char_length(v_before) + 1) else v_after end)
    with ordinality as p (piece, n)
  order by p.n;
  return null;
end $$;

-- Deletes the events of a deleted run's log, including those that are not numbered yet.
create or replace function deck.forget_logs() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_log constant text := 'missions/' || old.mission_id || '/tests/' || old.id || '/logs';
begin
  delete from deck.pending p where p.xid = pg_current_xact_id_if_assigned() and p.topic = v_log and p.event <> 'floor';
  with gone as (delete from deck.events e where e.topic = v_log returning e.seq)
  insert into deck.pending (topic, mission_id, event, data)
  select v_log, old.mission_id, 'floor', to_jsonb(max(g.seq)) from gone g having count(*) > 0;
  delete from deck.log_sizes s where s.run_id = old.id;
  return null;
end $$;

-- Adds a log's new events to deck.log_sizes. The trigger fires per event, in any order; the first call handles all events of the statement.
create or replace function deck.size_log(p_log text) returns void language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_run   constant uuid := deck.topic_run(p_log);
  v_first bigint;
  v_size  bigint;
  v_here  bigint;
begin
  select s.first, s.upto, s.seq into v_first, v_size, v_here
  from deck.log_sizes s where s.run_id = v_run order by s.first desc, s.upto desc limit 1;
  insert into deck.log_sizes (run_id, first, upto, seq)
  select v_run, c.first, sum(c.bytes) over (partition by c.first order by c.seq) + case when c.first = v_first then v_size else 0 end, c.seq
  from (
    select e.seq, octet_length(e.data ->> 'chunk') as bytes,
      coalesce(max(e.seq) filter (where e.event = 'log.replaced') over (order by e.seq), v_first, min(e.seq) over ()) as first
    from deck.events e
    where e.topic = p_log and e.seq > coalesce(v_here, 0)
  ) c
  on conflict do nothing;
end $$;

create or replace function deck.size_logs() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (
    select from (
      select s.seq from deck.log_sizes s where s.run_id = deck.topic_run(new.topic) order by s.first desc, s.upto desc limit 1) last
    where last.seq >= new.seq)
  then
    perform deck.size_log(new.topic);
  end if;
  return null;
end $$;

-- Returns the whole log of a run. Postgres limits a text to 1 GB.
create or replace function deck.log_text(p_mission uuid, p_run uuid) returns text language sql stable as $$
  select string_agg(e.data ->> 'chunk', '' order by e.seq)
  from deck.events e
  where e.topic = 'missions/' || p_mission || '/tests/' || p_run || '/logs'
    and e.seq >= coalesce((select s.first from deck.log_sizes s where s.run_id = p_run order by s.first desc, s.upto desc limit 1), 0)
$$;

-- Writes a run's log to test_runs.logs. If the log is over 16 MiB, the column keeps its value. An old row that violates a constraint is
-- left unchanged; its log is in the events.
create or replace function deck.fold_log(p_mission uuid, p_run uuid) returns void language plpgsql
set search_path = pg_catalog, public, pg_temp as $$
declare
  v_size bigint;
  v_here bigint;
begin
  select s.upto, s.seq into v_size, v_here from deck.log_sizes s where s.run_id = p_run order by s.first desc, s.upto desc limit 1;
  if v_size > 16777216 then
    return;
  end if;
  perform set_config('deck.numbering', pg_trigger_depth()::text, true);
  update public.test_runs t set logs = deck.log_text(p_mission, p_run), logs_upto = v_here where t.id = p_run;
  perform set_config('deck.numbering', 'off', true);
exception when check_violation then
  null;
end $$;

-- Appends a chunk to a run's log as one event. If its frame could be over 4 MiB (a control character is six bytes of JSON), the chunk is
-- split into several events. Returns the log's latest seq.
-- For SQL readers the log is copied to test_runs.logs: immediately while it is short, then each time its size has doubled. So the cost of
-- appending does not grow with the log.
create or replace function deck.append_log(p_mission uuid, p_run uuid, p_chunk text) returns bigint language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  v_log constant text := 'missions/' || p_mission || '/tests/' || p_run || '/logs';
  v_whole constant boolean := octet_length(p_chunk) <= 262144 or octet_length(to_json(p_chunk)::text) <= 4190208;
  v_here bigint;
  v_size bigint;
  v_folded bigint;
begin
  insert into deck.pending (topic, mission_id, row_id, event, data)
  select v_log, p_mission, p_run, 'log.appended', deck.log_json(p_run, p_mission, p.piece)
  from (
    select p_chunk as piece, 1 as n where v_whole
    union all
    select * from deck.pieces(case when not v_whole then p_chunk end) with ordinality where not v_whole) p
  order by p.n;
  set constraints deck.number immediate;
  select s.upto, s.seq into v_size, v_here from deck.log_sizes s where s.run_id = p_run order by s.first desc, s.upto desc limit 1;
  -- The head is locked, so this does not wait for a run that another transaction has locked. deck.tidy() copies its log later.
  select coalesce(octet_length(t.logs), 0) into v_folded from public.test_runs t where t.id = p_run for no key update skip locked;
  if v_folded is not null and (v_size <= 65536 or v_size >= 2 * v_folded) then
    perform deck.fold_log(p_mission, p_run);
  elsif v_size <= 16777216 then
    insert into deck.open_logs (run_id) values (p_run) on conflict do nothing;
  end if;
  return v_here;
end $$;
