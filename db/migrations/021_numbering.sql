-- Numbering looks at each new row twice instead of four times: for its topic, and for its seq. Where the row is, its place in the table,
-- is known from the latter; its key is looked for only if any of them has one. (Nobody else can see these rows, let alone move them.)
-- (deck.change and deck.give_seqs() without an argument are what the version before uses.)

create or replace view deck.noted as
  select p.id as stmt, r.ord, 'missions/' || c.mission_id || '/chat/' || c.citizen as topic,
         c.mission_id, c.id as row_id, null::text as event, null::jsonb as data, c.spot, c.keyed
  from deck.pending p
  cross join lateral unnest(p.messages) with ordinality as r (id, ord)
  cross join lateral (
    select m.mission_id, m.citizen, m.id, m.ctid as spot, m.key is not null as keyed from public.chat_messages m
    where m.id = r.id and m.seq is null limit 1) c
  where p.xid = pg_current_xact_id_if_assigned() and p.messages is not null
  union all
  select p.id, 1, p.topic, p.mission_id, p.row_id, p.event, p.data, null, false
  from deck.pending p
  where p.xid = pg_current_xact_id_if_assigned() and p.messages is null and p.event <> 'proof'
    and (p.event in ('mission.deleted', 'floor') or exists (select from public.missions m where m.id = p.mission_id));

create or replace function deck.number() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set work_mem = '32MB' as $$
declare
  violated text;
  topics   text[];
  proofs   boolean;
  keyed    boolean;
begin
  -- It fires once for each noted statement; the first firing does the work of all.
  if not exists (select from deck.pending where id = new.id) then
    return null;
  end if;

  -- Missing heads first, then the locks: whoever waits in the first pass holds only heads that nobody else can see yet.
  select array_agg(topic), bool_or(proof), bool_or(x.keyed) into topics, proofs, keyed
  from (
    select topic, bool_or(proof) as proof, bool_or(c.keyed) as keyed
    from (
      select topic, false as proof, c.keyed from deck.noted c
      union all
      select topic, true, false from deck.pending where xid = pg_current_xact_id_if_assigned() and event = 'proof') c
    group by topic) x;
  insert into deck.heads (topic) select topic from unnest(topics) topic order by topic collate "C" on conflict do nothing;
  perform from (select from deck.heads h where h.topic = any (topics) order by h.topic for update) locked;
  if proofs then
    perform deck.weigh();
  end if;

  -- The heads are ours: what other transactions committed to these topics can be seen from here on. Not so in a snapshot
  -- that is older than the locks: there a seq may be given for the second time, which is a serialization failure.
  perform deck.mark();
  if current_setting('transaction_isolation') = 'read committed' then
    perform deck.give_seqs(keyed);
  else
    begin
      perform deck.give_seqs(keyed);
    exception when unique_violation then
      get stacked diagnostics violated = constraint_name;
      if violated in ('chat_messages_topic_seq', 'events_pkey') then
        raise serialization_failure using message = 'could not serialize: the topic went on since this transaction began';
      end if;
      raise;
    end;
  end if;
  return null;
end $$;

create or replace function deck.give_seqs(keyed boolean) returns void language plpgsql
-- Plans of nested loops over indexes only, as before; and a COPY's rows are not to be sorted on disk.
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set work_mem = '32MB' as $$
declare
  moment constant timestamp := clock_timestamp() at time zone 'utc';
  hint_topics text[];
  hint_seqs   bigint[];
  used        text;
begin
  update deck.heads h set floor = f.floor
  from (
    select topic, max(data::bigint) as floor from deck.pending
    where xid = pg_current_xact_id_if_assigned() and event = 'floor' group by topic) f
  where h.topic = f.topic and h.floor < f.floor;

  if keyed then
    -- Before the index sees it: that would wait, with the heads locked, for a transaction that has removed the key's message
    -- and is still open.
    select case when s.found then 'this key was used before' else 'this key was used before the chat was cleared' end into used
    from deck.pending p
    cross join lateral unnest(p.messages) as r (id)
    cross join lateral (
      select mission_id, citizen, author, key from public.chat_messages
      where id = r.id and seq is null and key is not null limit 1) c
    cross join lateral (
      (select true as found from public.chat_messages s
       where deck.key_name(s.mission_id, s.citizen, s.author, s.key) = deck.key_name(c.mission_id, c.citizen, c.author, c.key)
         and s.key is not null and s.seq is not null limit 1)
      union all
      (select false from deck.cleared_keys
       where mission_id = c.mission_id and citizen = c.citizen and author = coalesce(c.author, '') and key = c.key
         and cleared_at > moment - interval '24 hours' limit 1)) s
    where p.xid = pg_current_xact_id_if_assigned() and p.messages is not null
    limit 1;
    if used is not null then
      raise unique_violation using message = used, constraint = 'chat_messages_key';
    end if;
  end if;

  perform set_config('deck.numbering', 'on', true);
  with
    change as materialized (
      select c.*, row_number() over (partition by c.topic order by c.stmt, c.ord) as nth
      from deck.noted c where c.event is distinct from 'floor'
    ),
    -- Where the topic stands is looked up for the first of its changes, and handed to the others.
    x as materialized (
      select c.topic, c.row_id, c.spot, c.event, c.data,
        max(h.seq) over (partition by c.topic) + c.nth as seq, max(h.at) over (partition by c.topic) as at
      from change c
      left join lateral (
        select greatest(h.floor, m.seq, e.seq) as seq, greatest(moment, m.at, e.at) as at
        from deck.heads h
        left join lateral (
          select seq, at from public.chat_messages
          where substr(c.topic, 46, 6) = '/chat/' and mission_id = c.mission_id and citizen = substr(c.topic, 52) and seq is not null
          order by seq desc limit 1) m on true
        left join lateral (select seq, at from deck.events where topic = c.topic order by seq desc limit 1) e on true
        -- (Outside, the condition would be tested after all of this was looked up for each row.)
        where c.nth = 1 and h.topic = c.topic
        limit 1
      ) h on true
    ),
    messages as (
      update public.chat_messages c set seq = x.seq, at = x.at from x where x.event is null and c.ctid = x.spot
    ),
    latest as (
      select row_id, split_part(event, '.', 1) as kind, max(seq) as seq
      from x where event is not null and split_part(event, '.', 1) in ('mission', 'dod_item', 'test_run') group by 1, 2
    ),
    missions as (update public.missions  t set seq = l.seq from latest l where l.kind = 'mission'  and t.id = l.row_id),
    dods     as (update public.dod_items t set seq = l.seq from latest l where l.kind = 'dod_item' and t.id = l.row_id),
    runs     as (update public.test_runs t set seq = l.seq from latest l where l.kind = 'test_run' and t.id = l.row_id),
    events as (
      insert into deck.events (topic, seq, event, data, at)
      select topic, seq, event, data || jsonb_build_object('seq', seq), at from x where event is not null
    )
  select array_agg(topic), array_agg(seq) into hint_topics, hint_seqs
  from (select topic, max(seq) as seq from x group by topic) y;
  perform set_config('deck.numbering', 'off', true);

  delete from deck.pending where xid = pg_current_xact_id();
  perform deck.hint(hint_topics, hint_seqs);
end $$;
