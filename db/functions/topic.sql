-- Topics: what their names consist of, notifications about them, the epoch, and the mark and horizon of numbering.
--
--   missions/{mission}                      missions/{mission}/chat/{citizen}      missions/{mission}/dod
--   missions/{mission}/tests                missions/{mission}/tests/{run}/logs    {mission}, {run}: a UUID of 36 characters
--
-- The parts are plain expressions that Postgres inlines. deck.heads.topic has collation "C", and so has a part of it: a comparison with
-- a citizen's column needs `collate "default"`, or no index of that column fits.

create or replace function deck.topic_mission(p_topic text) returns uuid language sql immutable parallel safe
  return substr(p_topic, 10, 36)::uuid;

create or replace function deck.topic_is_chat(p_topic text) returns boolean language sql immutable parallel safe
  return substr(p_topic, 46, 6) = '/chat/';

-- The citizen of a chat's topic.
create or replace function deck.topic_citizen(p_topic text) returns text language sql immutable parallel safe
  return substr(p_topic, 52);

-- The run of a log's topic.
create or replace function deck.topic_run(p_topic text) returns uuid language sql immutable parallel safe
  return substr(p_topic, 53, 36)::uuid;

-- Notifications go by 64 channels, a mission's by the last byte of its id: an instance listens to those of the missions that its sockets
-- follow. (With a channel a mission, each session would compare every notification with each of its channels.)
create or replace function deck.hint_channel(p_topic text) returns text language sql immutable parallel safe
  return 'deck_' || ((('x' || substr(p_topic, 44, 2))::bit(8)::integer % 64)::text);

-- "Topic T is at least at n": a hint, never the message itself. It begins with the instance whose batch it is ('-' for other writers): that
-- instance knows its own messages. One notification a topic: joining them took longer than sending them.
create or replace function deck.hint(p_topics text[], p_seqs bigint[]) returns void language plpgsql
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
begin
  perform pg_notify(deck.hint_channel(t.topic), '- ' || t.seq || ' ' || t.topic) from unnest(p_topics, p_seqs) as t (topic, seq);
end $$;

-- Raised where cursors can't be judged: on a standby, and on a timeline to which deck.greet() has not yet given an epoch.
create or replace function deck.refuse_server() returns text language plpgsql as $$
begin
  raise exception 'this server is a standby, or its timeline has no epoch yet' using errcode = 'DK002';
end $$;

-- Opaque; differs after a restore of a dump (new oids), on another cluster and after a promotion (new timeline, new salt). A standby
-- returns its primary's, as far as it has come.
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

-- Each instance calls it on each new connection. The first call on a new timeline (a promotion, a restored backup) draws a new salt: two
-- servers restored from one backup have the same timeline number.
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
  -- Only then: an update takes a lock and waits for the disk.
  if exists (select from deck.epoch_salt e where e.timeline is distinct from v_timeline) then
    update deck.epoch_salt e set salt = gen_random_uuid()::text, timeline = v_timeline
    where e.timeline is distinct from v_timeline;
  end if;
  cluster := (select c.system_identifier::text from pg_control_system() c);
  timeline := v_timeline;
  epoch := deck.epoch();
end $$;

-- All events of a mission have one order: by the time of their numbering (`at`), which never decreases along a topic, then by topic and
-- seq. It is readable up to a horizon, below which nothing can appear any more: a transaction may be numbered early and commit late. So
-- each transaction takes a lock named by the second before it reads the clock; nothing waits for that lock, readers only list it.
-- Nothing is written for it, and it ends with its transaction.

-- Declares that this transaction is about to number. Returns false only if another session holds the lock exclusively; it never waits.
create or replace function deck.mark() returns boolean language sql volatile
  return pg_try_advisory_xact_lock_shared(47470016, floor(date_part('epoch', clock_timestamp()) - 1577836800)::integer);

-- The time of what is numbered now: the clock's, but not before a horizon that was reported, should the clock be set back. Read after
-- deck.mark().
create or replace function deck.now() returns timestamp language sql volatile
  return greatest(clock_timestamp() at time zone 'utc',
    timestamp '2020-01-01' + pg_sequence_last_value('deck.settled'::regclass) * interval '1 microsecond');

-- Whatever was numbered before this time is committed, or rolled back, for every statement that begins later.
-- A transaction that takes its lock after this check reads the clock after it; one that has released it has committed visibly. Locks of
-- transactions that hold no head are ignored: anybody may take such a lock, but only numbering locks heads.
-- It is made known before that check, so that a transaction which is not seen here reads it. While the clock is behind the horizon that was
-- reported last, each horizon is a microsecond later than the one before: what was numbered meanwhile becomes readable.
create or replace function deck.horizon() returns timestamp language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  v_start constant timestamp := timestamp '2020-01-01';
  v_now timestamp := clock_timestamp() at time zone 'utc';
  v_oldest bigint;
begin
  if current_setting('transaction_read_only') = 'off' then
    -- One at a time, and nothing waits for the disk.
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
