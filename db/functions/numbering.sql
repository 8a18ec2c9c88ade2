-- Numbering: rows that any program writes to the four tables get their seqs when the transaction commits.
--
-- Statement triggers (changes.sql) record each change in deck.pending. At commit, one deferred trigger on deck.pending numbers all changes.
-- So an open transaction blocks no topic, and a transaction that rolls back leaves no gap.
--
-- Lock order, everywhere: tasks, then rows (a mission's key share before its parts), then heads. A transaction locks all its heads last,
-- in a single pass sorted by topic. It waits for no lock once it holds a head's. The functions run as their owner, so that writers need
-- grants on the four tables only.
--
-- A session caches its plans. A plan that was made while a table was small must not scan the table once it is large. The settings below
-- leave only nested loops over indexes. work_mem prevents sorting the rows of a large COPY on disk.
--
-- Triggers of the database's owner on the four tables may need `public` in the search path. Functions that only the server's role may
-- call have it there. The functions below run in any writer's commit: their statement adds `public` after it was planned, and it is
-- removed after the statement.

create or replace function deck.number() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set work_mem = '32MB' as $$
declare
  v_violated text;
  v_topics   text[];
  v_proofs   boolean;
  v_keyed    boolean;
  v_replied  boolean;
  v_replies  uuid[];
begin
  -- The trigger fires once per recorded statement. The first call numbers all of them; the others return here.
  if not exists (select from deck.pending p where p.id = new.id) then
    return null;
  end if;

  -- Missing heads are created first, then all heads are locked. A transaction that waits while creating holds only heads that no other
  -- transaction can see yet.
  select array_agg(x.topic), bool_or(x.proof), bool_or(x.keyed), bool_or(x.replied) into v_topics, v_proofs, v_keyed, v_replied
  from (
    select c.topic, bool_or(c.proof) as proof, bool_or(c.keyed) as keyed, bool_or(c.replied) as replied
    from (
      select n.topic, false as proof, n.keyed, n.replied from deck.noted n
      union all
      select p.topic, true, false, false from deck.pending p where p.xid = pg_current_xact_id_if_assigned() and p.event = 'proof') c
    group by c.topic) x;
  if v_replied then
    select array_agg(n.row_id) into v_replies from deck.noted n where n.replied;
    perform from (
      select from deck.tasks t
      where t.id = any (array(select c.in_reply_to from public.chat_messages c where c.id = any (v_replies))) order by t.id for update) locked;
  end if;
  insert into deck.heads (topic) select t from unnest(v_topics) t order by t collate "C" on conflict do nothing;
  perform from (select from deck.heads h where h.topic = any (v_topics) order by h.topic for update) locked;
  if v_proofs then
    perform deck.weigh();
  end if;

  -- The heads are locked. Under read committed, all committed rows of these topics are visible from here on. The snapshot of a higher
  -- isolation level is older than the locks: a seq may be assigned twice, which is reported as a serialization failure.
  perform deck.mark();
  if current_setting('transaction_isolation') = 'read committed' then
    perform deck.give_seqs(v_keyed);
  else
    begin
      perform deck.give_seqs(v_keyed);
    exception when unique_violation then
      get stacked diagnostics v_violated = constraint_name;
      if v_violated in ('chat_messages_topic_seq', 'events_pkey') then
        raise serialization_failure using message = 'could not serialize: the topic changed since this transaction began; retry the transaction';
      end if;
      raise;
    end;
  end if;
  if v_replied then
    perform deck.record_answers(v_replies);
  end if;
  return null;
end $$;

-- Assigns the seqs. The caller has locked the heads. p_keyed: whether any new message has a key.
create or replace function deck.give_seqs(p_keyed boolean) returns void language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set work_mem = '32MB' as $$
declare
  v_now    constant timestamp := deck.now();
  v_topics text[];
  v_seqs   bigint[];
  v_used   text;
  v_missed boolean;
begin
  update deck.heads h set floor = f.floor
  from (
    select p.topic, max(p.data::bigint) as floor from deck.pending p
    where p.xid = pg_current_xact_id_if_assigned() and p.event = 'floor' group by p.topic) f
  where h.topic = f.topic and h.floor < f.floor;

  if p_keyed then
    -- Keys are checked here, before the unique index does. If an open transaction has removed the key's message, the index would wait for
    -- it while the heads are locked.
    select case when s.found then 'this key was used before' else 'this key was used before the chat was cleared' end into v_used
    from deck.pending p
    cross join lateral unnest(p.messages) as r (id)
    cross join lateral (
      select m.mission_id, m.citizen, m.author, m.key from public.chat_messages m
      where m.id = r.id and m.seq is null and m.key is not null limit 1) c
    cross join lateral (
      (select true as found from public.chat_messages o
       where deck.key_name(o.mission_id, o.citizen, o.author, o.key) = deck.key_name(c.mission_id, c.citizen, c.author, c.key)
         and o.key is not null and o.seq is not null limit 1)
      union all
      (select false from deck.cleared_keys k
       where k.mission_id = c.mission_id and k.citizen = c.citizen and k.author = coalesce(c.author, '') and k.key = c.key
         and k.cleared_at > v_now - interval '24 hours' limit 1)) s
    where p.xid = pg_current_xact_id_if_assigned() and p.messages is not null
    limit 1;
    if v_used is not null then
      raise unique_violation using message = v_used, constraint = 'chat_messages_key';
    end if;
  end if;

  perform set_config('deck.numbering', pg_trigger_depth()::text, true);
  with
    change as materialized (
      select c.*, row_number() over (partition by c.topic order by c.stmt, c.ord) as nth
      from deck.noted c where c.event is distinct from 'floor'
        and (select set_config('search_path', 'public, pg_temp', true)) is not null
    ),
    -- A topic's latest seq is read for the topic's first change only, and used for the others.
    x as materialized (
      select c.topic, c.row_id, c.spot, c.event, c.data,
        max(h.seq) over (partition by c.topic) + c.nth as seq, max(h.at) over (partition by c.topic) as at
      from change c
      left join lateral (
        select greatest(h.floor, m.seq, e.seq) as seq, greatest(v_now, m.at, e.at) as at
        from deck.heads h
        left join lateral (
          select m.seq, m.at from public.chat_messages m
          where deck.topic_is_chat(c.topic) and m.mission_id = c.mission_id and m.citizen = deck.topic_citizen(c.topic) and m.seq is not null
          order by m.seq desc limit 1) m on true
        left join lateral (select e.seq, e.at from deck.events e where e.topic = c.topic order by e.seq desc limit 1) e on true
        -- (Outside the subquery, the condition would be checked only after the subquery has run for each row.)
        where c.nth = 1 and h.topic = c.topic
        limit 1
      ) h on true
    ),
    -- Rows are found by ctid: no other transaction can see these rows, so none can move them.
    messages as (
      update public.chat_messages c set seq = x.seq, at = x.at from x where x.event is null and c.ctid = x.spot
      returning 1
    ),
    latest as (
      select x.row_id, split_part(x.event, '.', 1) as kind, max(x.seq) as seq, min(x.seq) as first
      from x where x.event is not null and split_part(x.event, '.', 1) in ('mission', 'dod_item', 'test_run', 'request') group by 1, 2
    ),
    missions as (update public.missions  t set seq = l.seq from latest l where l.kind = 'mission'  and t.id = l.row_id),
    dods     as (update public.dod_items t set seq = l.seq from latest l where l.kind = 'dod_item' and t.id = l.row_id),
    runs     as (update public.test_runs t set seq = l.seq from latest l where l.kind = 'test_run' and t.id = l.row_id),
    requests as (
      update deck.requests t set seq = l.seq, first_seq = case when t.first_seq = 0 then l.first else t.first_seq end
      from latest l where l.kind = 'request' and t.id = l.row_id),
    events as (
      insert into deck.events (topic, seq, event, data, at)
      -- (The data of message.redacted has the seq of the message.)
      select x.topic, x.seq, x.event, case when x.event = 'message.redacted' then x.data else x.data || jsonb_build_object('seq', x.seq) end, x.at
      from x where x.event is not null
    )
  select array_agg(y.topic), array_agg(y.seq),
      (select count(*) from messages) < (select count(*) from x where x.event is null)
    into v_topics, v_seqs, v_missed
  from (select x.topic, max(x.seq) as seq from x group by x.topic) y;
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  perform set_config('deck.numbering', 'off', true);
  if v_missed then
    raise check_violation using message = 'a trigger of the database kept a message from being numbered';
  end if;

  delete from deck.pending p where p.xid = pg_current_xact_id();
  perform deck.hint(v_topics, v_seqs);
end $$;
