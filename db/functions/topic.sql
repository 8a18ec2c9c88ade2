-- Topics: parsing their names, notifications, the epoch, and the mark and horizon of numbering.
--
--   missions/{mission}                      missions/{mission}/chat/{citizen}      missions/{mission}/dod
--   missions/{mission}/tests                missions/{mission}/tests/{run}/logs    {mission}, {run}: a UUID of 36 characters
--
-- The parsing functions are expressions that Postgres inlines. deck.heads.topic has collation "C", and so have its parts. A comparison with
-- a citizen column needs `collate "default"`; otherwise Postgres can't use that column's indexes.

create or replace function deck.topic_mission(p_topic text) returns uuid language sql immutable parallel safe
  return substr(p_topic, 10, 36)::uuid;

create or replace function deck.topic_is_chat(p_topic text) returns boolean language sql immutable parallel safe
  return substr(p_topic, 46, 6) = '/chat/';

-- Returns the citizen of a chat topic.
create or replace function deck.topic_citizen(p_topic text) returns text language sql immutable parallel safe
  return substr(p_topic, 52);

-- Returns the run of a log topic.
create or replace function deck.topic_run(p_topic text) returns uuid language sql immutable parallel safe
  return substr(p_topic, 53, 36)::uuid;

-- Notifications use 64 channels; the last byte of the mission's id selects one. An instance listens only on the channels of missions that
-- its sockets follow. (With a channel per mission, Postgres would compare each notification with every channel of each session.)
create or replace function deck.hint_channel(p_topic text) returns text language sql immutable parallel safe
  return 'deck_' || ((('x' || substr(p_topic, 44, 2))::bit(8)::integer % 64)::text);

-- Notifies that a topic's latest seq is at least n. The payload is 'ORIGIN SEQ TOPIC', never the message itself. The origin is the instance
-- that wrote the batch, which skips its own notifications; '-' for other writers. Each topic gets a separate notification: joining
-- them took longer than sending them.
create or replace function deck.hint(p_topics text[], p_seqs bigint[]) returns void language plpgsql
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
begin
  perform pg_notify(deck.hint_channel(t.topic), '- ' || t.seq || ' ' || t.topic) from unnest(p_topics, p_seqs) as t (topic, seq);
end $$;

-- Raises DK002. Cursors can't be checked on a standby, and on a timeline for which deck.greet() has not drawn a salt yet.
create or replace function deck.refuse_server() returns text language plpgsql as $$
begin
  raise exception 'this server is a standby, or its timeline has no epoch yet' using errcode = 'DK002';
end $$;

-- Returns the epoch, an opaque text. It changes when a dump is restored (new oids), on a different cluster, and after a promotion (new
-- timeline and salt). A standby returns the epoch of its primary, as far as it has been replicated.
create or replace function deck.epoch() returns text language sql stable
  return (
    select left(encode(sha256(convert_to(concat_ws('/',
      (select system_identifier from pg_control_system()),
      case
        when pg_is_in_recovery() then e.timeline
        when e.timeline = left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) then e.timeline
        else deck.refuse_server() end,
      (select oid from pg_database where datname = current_database()),
      'deck.heads'::regclass::oid,
      e.salt), 'UTF8')), 'hex'), 16)
    from deck.epoch_salt e);

-- The stamp of each page of rows: an instance that reads a different stamp reads the epoch again (src/database/postgres/epoch). Cheaper than the
-- epoch itself. Fails where deck.epoch() fails. (A table, so that Postgres inlines it.)
create or replace function deck.stamp() returns table (stamp text) language sql stable as $$
  select s.salt || 'deck.heads'::regclass::oid || case
    when pg_is_in_recovery() then deck.refuse_server()
    when s.timeline = left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) then ''
    else deck.refuse_server() end
  from deck.epoch_salt s
$$;

-- Called on each new connection of an instance. The first call on a new timeline (after a promotion or a restored backup) draws a new salt.
-- The timeline number alone is not enough: two servers that were restored from the same backup have the same one.
create or replace function deck.greet(out standby boolean, out cluster text, out timeline text, out epoch text)
language plpgsql as $$
declare
  v_timeline text;
begin
  standby := pg_is_in_recovery();
  if standby then
    return;
  end if;
  v_timeline := left(pg_walfile_name(pg_current_wal_insert_lsn()), 8);
  -- The check avoids an update that would take a lock and wait for the disk.
  if exists (select from deck.epoch_salt e where e.timeline is distinct from v_timeline) then
    update deck.epoch_salt e set salt = gen_random_uuid()::text, timeline = v_timeline
    where e.timeline is distinct from v_timeline;
  end if;
  cluster := (select c.system_identifier::text from pg_control_system() c);
  timeline := v_timeline;
  epoch := deck.epoch();
end $$;

-- All events of a mission have one order: by the time of their numbering (`at`), which never decreases within a topic, then by topic and
-- seq. A transaction may be numbered early and commit late. So the order is readable only up to a horizon, below which no event can appear
-- any more.
--
-- To compute the horizon, each transaction takes an advisory lock before it reads the clock. The lock's name is the current second. Nothing
-- waits for this lock, readers only list it. It needs no write and ends with the transaction.

-- Marks this transaction as numbering. Returns false only if another session holds the lock exclusively. Never waits.
create or replace function deck.mark() returns boolean language sql volatile
  return pg_try_advisory_xact_lock_shared(47470016, floor(date_part('epoch', clock_timestamp()) - 1577836800)::integer);

-- Returns the time for events that are numbered now: the clock's time, but never before a reported horizon, even if the clock was set back.
-- Call it after deck.mark().
create or replace function deck.now() returns timestamp language sql volatile
  return greatest(clock_timestamp() at time zone 'utc',
    timestamp '2020-01-01' + pg_sequence_last_value('deck.settled'::regclass) * interval '1 microsecond');

-- Returns the horizon. For statements that begin later, each transaction that was numbered before the horizon has ended.
--
-- The horizon is stored first, then the locks are listed. A transaction that takes its lock after the listing reads the clock and the
-- stored horizon after it. A transaction that has released its lock has committed visibly. Locks of transactions that hold no head are
-- ignored: any role may take such a lock, but only numbering locks heads.
--
-- If the clock is behind the last reported horizon, each horizon is a microsecond later than the previous one. So events that are numbered
-- in the meantime become readable.
create or replace function deck.horizon() returns timestamp language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  v_start constant timestamp := timestamp '2020-01-01';
  v_now timestamp := clock_timestamp() at time zone 'utc';
  v_oldest bigint;
begin
  if current_setting('transaction_read_only') = 'off' then
    -- Only one session computes the horizon at a time, and its commit does not wait for the disk.
    lock table deck.seal_key in share update exclusive mode;
    perform set_config('synchronous_commit', 'off', true);
    v_now := greatest(v_now, v_start + ((select s.last_value from deck.settled s) + 1) * interval '1 microsecond');
    perform setval('deck.settled', (extract(epoch from v_now - v_start) * 1000000)::bigint);
  end if;
  with held as materialized (
    select l.locktype, l.classid, l.objid, l.objsubid, l.relation, l.mode, l.virtualtransaction
    from pg_locks l
    where l.granted and l.database = (select d.oid from pg_database d where d.datname = current_database())
      and l.locktype in ('advisory', 'relation'))
  select min(m.objid::bigint) into v_oldest
  from held m
  where m.locktype = 'advisory' and m.classid = 47470016 and m.objsubid = 2 and m.mode = 'ShareLock'
    and exists (
      select from held h
      where h.virtualtransaction = m.virtualtransaction and h.locktype = 'relation'
        and h.relation = 'deck.heads'::regclass and h.mode in ('RowShareLock', 'RowExclusiveLock'));
  return least(v_now, v_start + v_oldest * interval '1 second');
end $$;
