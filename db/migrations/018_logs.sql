-- Run logs of any size. Each chunk has its place in bytes, so that a part of a log is read without what is before it; what SQL writes
-- comes in pieces that a reader can take; test_runs.logs follows up to 16 MiB, so that no append ever rewrites more.

-- Where a run's chunks end. Only added to: an open transaction leaves no trail of old versions. No foreign key: checking it could wait
-- under the head's lock.
create table if not exists deck.log_sizes (
  run_id uuid,
  first  bigint not null,                    -- the seq that the log begins with: of the last replacement, or the first chunk
  upto   bigint not null,                    -- bytes of UTF-8 from there to the end of this chunk
  seq    bigint not null,
  primary key (run_id, first, upto) include (seq)
);

-- Adds what a log's events lack. They may come in any order within a statement: the first one's firing does the work of all.
create or replace function deck.size_log(log text) returns void language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  run   constant uuid := substr(log, 53, 36);
  begun bigint;
  size  bigint;
  here  bigint;
begin
  select s.first, s.upto, s.seq into begun, size, here
  from deck.log_sizes s where s.run_id = run order by s.first desc, s.upto desc limit 1;
  insert into deck.log_sizes (run_id, first, upto, seq)
  select run, c.first, sum(c.bytes) over (partition by c.first order by c.seq) + case when c.first = begun then size else 0 end, c.seq
  from (
    select e.seq, octet_length(e.data ->> 'chunk') as bytes,
      coalesce(max(e.seq) filter (where e.event = 'log.replaced') over (order by e.seq), begun, min(e.seq) over ()) as first
    from deck.events e
    where e.topic = log and e.seq > coalesce(here, 0)
  ) c
  on conflict do nothing;
end $$;

create or replace function deck.size_logs() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (
    select from (
      select seq from deck.log_sizes where run_id = substr(new.topic, 53, 36)::uuid order by first desc, upto desc limit 1) last
    where last.seq >= new.seq)
  then
    perform deck.size_log(new.topic);
  end if;
  return null;
end $$;
create or replace trigger size_logs after insert on deck.events
  for each row when (new.event in ('log.appended', 'log.replaced')) execute function deck.size_logs();

-- What is there already.
select deck.size_log(l.topic)
from (select distinct topic from deck.events where event in ('log.appended', 'log.replaced')) l;

-- A text in pieces of at most 256 KiB of UTF-8, cut between characters; the empty text is one.
create or replace function deck.pieces(whole text) returns setof text language plpgsql immutable
set search_path = pg_catalog, pg_temp as $$
declare
  most  constant integer := 262144;
  size  constant integer := octet_length(whole);
  bytes bytea;
  here  integer := 0;
  upto  integer;
begin
  if size <= most then
    return next whole;
    return;
  end if;
  bytes := convert_to(whole, 'UTF8');
  while here < size loop
    upto := least(here + most, size);
    while upto < size and get_byte(bytes, upto) & 192 = 128 loop
      upto := upto - 1;
    end loop;
    return next convert_from(substr(bytes, here + 1, upto - here), 'UTF8');
    here := upto;
  end loop;
end $$;

-- Row by row, since only a trigger with a column list leaves alone the updates that don't name the logs.
create or replace function deck.note_logs() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  before   constant text := case when tg_op = 'UPDATE' then coalesce(old.logs, '') else '' end;
  after    constant text := coalesce(new.logs, '');
  extended constant boolean := starts_with(after, before);
begin
  if after = before then
    return null;
  end if;
  insert into deck.pending (topic, mission_id, row_id, event, data)
  select 'missions/' || new.mission_id || '/tests/' || new.id || '/logs', new.mission_id, new.id,
         case when extended or p.n > 1 then 'log.appended' else 'log.replaced' end, deck.log_json(new.id, new.mission_id, p.piece)
  from deck.pieces(case when extended and before <> '' then substr(after, char_length(before) + 1) else after end)
    with ordinality as p (piece, n)
  order by p.n;
  return null;
end $$;

-- A deleted run takes its log's events along, with those that are not yet numbered.
create or replace function deck.forget_logs() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  log constant text := 'missions/' || old.mission_id || '/tests/' || old.id || '/logs';
begin
  delete from deck.pending where xid = pg_current_xact_id_if_assigned() and topic = log and event <> 'floor';
  with gone as (delete from deck.events where topic = log returning seq)
  insert into deck.pending (topic, mission_id, event, data)
  select log, old.mission_id, 'floor', to_jsonb(max(seq)) from gone having count(*) > 0;
  delete from deck.log_sizes where run_id = old.id;
  return null;
end $$;

-- The whole log of a run, up to the 1 GB that a text may have.
create or replace function deck.log_text(mission uuid, run uuid) returns text language sql stable as $$
  select string_agg(e.data ->> 'chunk', '' order by e.seq)
  from deck.events e
  where e.topic = 'missions/' || mission || '/tests/' || run || '/logs'
    and e.seq >= coalesce((select s.first from deck.log_sizes s where s.run_id = run order by s.first desc, s.upto desc limit 1), 0)
$$;

-- Puts a run's log into test_runs.logs, unless it is over 16 MiB: the column then keeps what it had. An old row that breaks a
-- constraint stays as it is: its log is in the events.
create or replace function deck.fold_log(mission uuid, run uuid) returns void language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  size bigint;
  here bigint;
begin
  select s.upto, s.seq into size, here from deck.log_sizes s where s.run_id = run order by s.first desc, s.upto desc limit 1;
  if size > 16777216 then
    return;
  end if;
  perform set_config('deck.numbering', 'on', true);
  update public.test_runs set logs = deck.log_text(mission, run), logs_upto = here where id = run;
  perform set_config('deck.numbering', 'off', true);
exception when check_violation then
  null;
end $$;

-- Appends a chunk to a run's log: one event, or pieces where its frame could be over 4 MiB (control characters, each of them six
-- bytes of JSON). For those who read by SQL it is folded into test_runs.logs: at once while the log is short, then whenever
-- its size has doubled, so that growing costs what is appended and not what is there.
create or replace function deck.append_log(mission uuid, run uuid, chunk text) returns bigint language plpgsql
set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  log constant text := 'missions/' || mission || '/tests/' || run || '/logs';
  whole constant boolean := octet_length(chunk) <= 262144 or octet_length(to_json(chunk)::text) <= 4190208;
  here bigint;
  size bigint;
  folded bigint;
begin
  insert into deck.pending (topic, mission_id, row_id, event, data)
  select log, mission, run, 'log.appended', deck.log_json(run, mission, p.piece)
  from (
    select chunk as piece, 1 as n where whole
    union all
    select * from deck.pieces(case when not whole then chunk end) with ordinality where not whole) p
  order by p.n;
  set constraints deck.number immediate;
  select upto, seq into size, here from deck.log_sizes where run_id = run order by first desc, upto desc limit 1;
  -- A run that somebody else is changing is left to deck.tidy(): the head is held by now.
  select coalesce(octet_length(logs), 0) into folded from public.test_runs where id = run for no key update skip locked;
  if folded is not null and (size <= 65536 or size >= 2 * folded) then
    perform deck.fold_log(mission, run);
  elsif size <= 16777216 then
    insert into deck.open_logs (run_id) values (run) on conflict do nothing;
  end if;
  return here;
end $$;
