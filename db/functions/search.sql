-- Search blocks: deck.search_blocks has one row for every 500 messages of a chat. A block only narrows down a search: the messages of the
-- blocks that match are read and compared. Blocks are built in the background (src/database/search/indexer).
--
-- These are always scanned: messages without a block, messages that were changed or removed since their block was built
-- (deck.search_stale), and blocks built by another version of the word rule (words.sql). The last two kinds are then rebuilt.

-- Records messages that were changed or removed after they were numbered. (deck.touched: save_messages() reads its batch again, because a
-- trigger may have changed it.)
create or replace function deck.note_stale() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  perform set_config('deck.touched', 'on', true);
  if tg_op = 'DELETE' then
    insert into deck.search_stale (mission_id, citizen, first, last)
    select o.mission_id, o.citizen, min(o.seq), max(o.seq) from old_rows o where o.seq is not null group by o.mission_id, o.citizen;
  elsif old.seq is not null then
    insert into deck.search_stale (mission_id, citizen, first, last) values (old.mission_id, old.citizen, old.seq, old.seq);
  end if;
  return null;
end $$;

drop function if exists deck.search_block(uuid, text, bigint, bigint, integer);
-- Returns the block of a chat's messages with p_after < seq <= p_upto: up to p_most messages, or p_bytes of uncompressed text (stored code
-- may be a hundred times smaller). more: true if the block is full, so that messages may follow. Words of code are in the block twice,
-- once with the prefix \5.
-- For Markdown the rule prefers false matches to missed ones: the text after the first fence of a line counts both as a language and as
-- code.
create or replace function deck.search_block(
  p_mission uuid, p_citizen text, p_after bigint, p_upto bigint, p_most integer, p_bytes bigint,
  out more boolean, out last bigint, out rows integer, out bytes bigint, out earliest timestamp, out latest timestamp, out words tsvector)
language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_message record;
  v_last  bigint;
  v_marks text[];
  v_whole text;
begin
  more := false;
  rows := 0;
  bytes := 0;
  for v_message in
    select c.seq, octet_length(c.message) as size, c.code_blocks from public.chat_messages c
    where c.mission_id = p_mission and c.citizen = p_citizen and c.seq > p_after and c.seq <= p_upto
    order by c.seq limit p_most
  loop
    more := bytes >= p_bytes;
    exit when more;
    v_last := v_message.seq;
    rows := rows + 1;
    bytes := bytes + v_message.size
      + case when v_message.code_blocks is null then 0 else octet_length(v_message.code_blocks::text) end;
  end loop;
  more := more or rows >= p_most;
  last := v_last;
  with
    taken as materialized (
      select c.seq, c.sender, c.message, c.code_blocks, c.created_at from public.chat_messages c
      where c.mission_id = p_mission and c.citizen = p_citizen and c.seq > p_after and c.seq <= v_last
    ),
    given as materialized (
      select b.value ->> 'language' as language, b.value ->> 'code' as code
      from taken t cross join lateral jsonb_array_elements(case when jsonb_typeof(t.code_blocks) = 'array' then t.code_blocks else '[]' end) b
      where t.code_blocks is not null
    ),
    fenced as materialized (
      select t.message from taken t where t.code_blocks is null and (t.message like '%```%' or t.message like '%~~~%')
    ),
    languages as (
      select distinct case
          when l.language ~ '^[ -~]+$' and char_length(l.language) <= 256 and (l.given or l.language !~ '[&\\]')
          then lower(l.language collate "C") else '' end as language
      from (
        select g.language, true as given from given g
        union all
        select substring(m[1] from '^[ \t\v\f]*([^ \t\v\f]+)'), false
        from fenced f cross join lateral regexp_matches(f.message, '(?:`{3,}|~{3,})([^\n\r]*)', 'g') m
      ) l
      where l.language is not null
      limit 1001
    ),
    marks as materialized (
      select distinct a.mark from (
        select E'\x01' || p_mission || p_citizen as mark
        union all select distinct E'\x03' || t.sender from taken t
        -- Over a thousand languages: the block has a mark that matches any language.
        union all select E'\x02' || l.language from languages l where (select count(*) from languages) <= 1000
        union all select E'\x02' where (select count(*) from languages) > 1000
        union all select E'\x05' || w.word
          from (select g.code from given g union all select substring(f.message from '(?:`{3,}|~{3,}).*') from fenced f) c
          cross join lateral unnest(deck.block_words(c.code)) w (word)
      ) a
    )
  select min(t.created_at), max(t.created_at), string_agg(t.message, E'\n'), array(select m.mark from marks m)
  into earliest, latest, v_whole, v_marks
  from taken t;
  -- All texts are split into words by a single call, which takes half the time of a call per text.
  select array_to_tsvector(array_agg(x.word)) into words
  from (
    select distinct w.word collate "C" as word from unnest(v_marks || deck.block_words(coalesce(v_whole, ''))) as w (word)
    where octet_length(w.word) <= 2046) x
  having sum(octet_length(x.word)) <= 1000000;
  -- A tsvector holds a megabyte. A block with more words is always scanned.
  words := coalesce(words, array_to_tsvector(array[E'\x01' || p_mission || p_citizen, E'\x04']));
end $$;

-- Returns the blocks of a mission, or of one of its chats, that were built by another version of the word rule.
create or replace function deck.search_outdated(p_mission uuid, p_citizen text) returns table (citizen text, first bigint, last bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off as $$
begin
  -- Such blocks exist only for some time after an upgrade.
  if exists (select from deck.search_blocks s where s.rule < deck.word_rule())
    or exists (select from deck.search_blocks s where s.rule > deck.word_rule())
  then
    return query
      select s.citizen, s.first, s.last from deck.search_blocks s
      where s.mission_id = p_mission and (p_citizen is null or s.citizen = p_citizen) and s.rule <> deck.word_rule();
  end if;
end $$;

-- Returns the chats with enough new messages for a block. Seqs below the oldest stored message do not count. Otherwise a chat whose older
-- messages were removed would be read in each round without getting a block. (Without `collate "default"` this took 21 s with 10 million
-- messages, see topic.sql.)
create or replace function deck.search_due() returns table (mission_id uuid, citizen text) language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
begin
  return query
    select t.mission, t.citizen
    from deck.heads h
    cross join lateral (
      select deck.topic_mission(h.topic) as mission, deck.topic_citizen(h.topic) collate "default" as citizen offset 0) t
    cross join lateral (
      select c.seq from public.chat_messages c where c.mission_id = t.mission and c.citizen = t.citizen and c.seq is not null
      order by c.seq desc limit 1) n
    left join lateral (
      select b.last from deck.search_blocks b where b.mission_id = t.mission and b.citizen = t.citizen order by b.last desc limit 1) b on true
    where deck.topic_is_chat(h.topic) and n.seq - coalesce(b.last, 0) >= 500
      and (b.last is not null or n.seq >= 499 + (
        select c.seq from public.chat_messages c where c.mission_id = t.mission and c.citizen = t.citizen and c.seq is not null
        order by c.seq limit 1))
    limit 1000;
end $$;

-- Builds the next part of a chat's next block: up to p_most messages. Returns true if the block is complete and added, false if the part
-- waits for more, null if there are too few messages. A block of 500 takes 15 ms, a part of 50 less than 2.
create or replace function deck.search_slice(p_mission uuid, p_citizen text, p_most integer) returns boolean language plpgsql
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  -- The rule's version is read before the words. If the rule changes in between, the block counts as outdated and is rebuilt.
  v_rule  integer := deck.word_rule();
  v_mark  bigint;
  v_after bigint;
  v_rows  bigint;
  v_bytes bigint;
  v_slice record;
  v_part  record;
begin
  -- (Whatever a crash loses is built again.)
  perform set_config('synchronous_commit', 'off', true);
  v_mark := coalesce((
    select s.last from deck.search_blocks s where s.mission_id = p_mission and s.citizen = p_citizen order by s.last desc limit 1), 0);
  -- Another instance has added a block meanwhile, or the rule has changed.
  if exists (
    select from deck.search_parts s
    where s.mission_id = p_mission and s.citizen = p_citizen and (s.last <= v_mark or s.rule <> v_rule))
  then
    delete from deck.search_parts s where s.mission_id = p_mission and s.citizen = p_citizen;
  end if;
  select coalesce(max(s.last), v_mark), coalesce(sum(s.rows), 0), coalesce(sum(s.bytes), 0) into v_after, v_rows, v_bytes
  from deck.search_parts s where s.mission_id = p_mission and s.citizen = p_citizen;
  select b.* into v_slice
  from deck.search_block(p_mission, p_citizen, v_after, 9223372036854775807, least(p_most, 500 - v_rows)::integer, 262144 - v_bytes) b;
  if not v_slice.more then
    return null;
  end if;
  if v_rows + v_slice.rows < 500 and v_bytes + v_slice.bytes < 262144 then
    insert into deck.search_parts (mission_id, citizen, last, rows, bytes, earliest, latest, words, rule)
    values (p_mission, p_citizen, v_slice.last, v_slice.rows, v_slice.bytes, v_slice.earliest, v_slice.latest, v_slice.words, v_rule)
    on conflict do nothing;
    return false;
  end if;
  for v_part in
    select s.earliest, s.latest, s.words from deck.search_parts s where s.mission_id = p_mission and s.citizen = p_citizen
  loop
    v_slice.earliest := least(v_slice.earliest, v_part.earliest);
    v_slice.latest := greatest(v_slice.latest, v_part.latest);
    begin
      v_slice.words := v_slice.words || v_part.words;
    exception when program_limit_exceeded then
      v_slice.words := array_to_tsvector(array[E'\x01' || p_mission || p_citizen, E'\x04']);
    end;
  end loop;
  insert into deck.search_blocks (mission_id, citizen, first, last, earliest, latest, words, code, rule)
  values (p_mission, p_citizen, v_mark + 1, v_slice.last, v_slice.earliest, v_slice.latest, v_slice.words, true, v_rule) on conflict do nothing;
  delete from deck.search_parts s where s.mission_id = p_mission and s.citizen = p_citizen;
  return true;
end $$;

-- Adds up to p_most blocks of a chat, each as a whole. Returns how many.
create or replace function deck.search_index(p_mission uuid, p_citizen text, p_most integer) returns integer language plpgsql
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_added integer := 0;
  v_whole boolean;
begin
  while v_added < p_most loop
    v_whole := deck.search_slice(p_mission, p_citizen, 500);
    exit when v_whole is null;
    v_added := v_added + v_whole::integer;
  end loop;
  return v_added;
end $$;

-- Rebuilds the block that ends at p_last from the messages that are stored now.
create or replace function deck.search_renew(p_mission uuid, p_citizen text, p_last bigint) returns void language plpgsql
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_rule  integer := deck.word_rule();
  v_block record;
begin
  select n.* into v_block from deck.search_blocks s
  cross join lateral deck.search_block(p_mission, p_citizen, s.first - 1, s.last, 2147483647, 262144) n
  where s.mission_id = p_mission and s.citizen = p_citizen and s.last = p_last;
  update deck.search_blocks s
  set code = true, rule = v_rule, (earliest, latest, words) = (
    -- The messages have grown beyond a block's size: the block matches every search and is scanned.
    case when v_block.more then '-infinity' else v_block.earliest end, case when v_block.more then 'infinity' else v_block.latest end,
    case when v_block.more then v_block.words || array_to_tsvector(array[E'\x04']) else v_block.words end)
  where s.mission_id = p_mission and s.citizen = p_citizen and s.last = p_last;
end $$;

-- Rebuilds up to p_most blocks of one chat in which messages were changed or removed. If no chat has such blocks, rebuilds blocks of any
-- chat that lack the marks of code or were built by another version of the word rule.
-- Returns true if more blocks may need it.
create or replace function deck.search_mend(p_most integer) returns boolean language plpgsql
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_mission uuid;
  v_citizen text;
  v_ids     bigint[];
  v_stale   bigint[];
  v_lowest  bigint;
  v_last    bigint;
  v_block   record;
begin
  select s.mission_id, s.citizen into v_mission, v_citizen from deck.search_stale s order by s.id limit 1;
  if not found then
    -- (One branch per condition, so that each branch uses its index.)
    for v_block in
      select x.mission_id, x.citizen, x.last from (
        (select s.mission_id, s.citizen, s.last from deck.search_blocks s
         where not s.code order by s.mission_id desc, s.citizen desc, s.last desc limit p_most)
        union
        (select s.mission_id, s.citizen, s.last from deck.search_blocks s
         where s.rule < deck.word_rule() order by s.rule desc, s.mission_id desc, s.citizen desc, s.last desc limit p_most)
        union
        (select s.mission_id, s.citizen, s.last from deck.search_blocks s
         where s.rule > deck.word_rule() order by s.rule desc, s.mission_id desc, s.citizen desc, s.last desc limit p_most)
      ) x
      order by x.mission_id desc, x.citizen desc, x.last desc limit p_most
    loop
      perform deck.search_renew(v_block.mission_id, v_block.citizen, v_block.last);
    end loop;
    return found;
  end if;
  -- The recorded changes are committed, so the statements below see them.
  select array_agg(x.id) into v_ids from (
    select s.id from deck.search_stale s where s.mission_id = v_mission and s.citizen = v_citizen order by s.first limit 500) x;
  -- Parts of a block may have the words of these messages as they were.
  delete from deck.search_parts s where s.mission_id = v_mission and s.citizen = v_citizen;
  select c.seq into v_lowest from public.chat_messages c
  where c.mission_id = v_mission and c.citizen = v_citizen and c.seq is not null order by c.seq limit 1;
  delete from deck.search_blocks s
  where s.mission_id = v_mission and s.citizen = v_citizen and s.last < coalesce(v_lowest, 9223372036854775807);

  select array_agg(x.last order by x.last) into v_stale from (
    select distinct o.last
    from unnest(v_ids) i
    cross join lateral (select a.* from deck.search_stale a where a.id = i limit 1) s
    cross join lateral (
      select o.last from deck.search_blocks o
      where o.mission_id = v_mission and o.citizen = v_citizen and o.last >= s.first and o.last <= (
        select u.last from deck.search_blocks u
        where u.mission_id = v_mission and u.citizen = v_citizen and u.last >= least(s.last, (
          select v.last from deck.search_blocks v where v.mission_id = v_mission and v.citizen = v_citizen order by v.last desc limit 1))
        order by u.last limit 1)
      order by o.last limit p_most) o
    order by o.last limit p_most) x;
  foreach v_last in array coalesce(v_stale, '{}') loop
    perform deck.search_renew(v_mission, v_citizen, v_last);
  end loop;
  -- If p_most blocks were rebuilt, the changes up to the last of these blocks are done. Otherwise all changes are.
  if coalesce(cardinality(v_stale), 0) < p_most then
    v_last := 9223372036854775807;
  end if;
  delete from deck.search_stale s where s.id = any (v_ids) and s.last <= v_last;
  update deck.search_stale s set first = v_last + 1 where s.id = any (v_ids) and s.first <= v_last;
  return true;
end $$;

-- Returns the blocks that may contain messages of the query, of this time and with p_after < seq < p_before. The settings leave only the
-- index on words.
create or replace function deck.search_candidates(
  p_query tsquery, p_since timestamp, p_until timestamp, p_after bigint, p_before bigint, out firsts bigint[], out lasts bigint[])
language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_indexscan = off set enable_indexonlyscan = off set enable_bitmapscan = on as $$
begin
  select array_agg(b.first order by b.first), array_agg(b.last order by b.first) into firsts, lasts
  from deck.search_blocks b
  where b.words @@ p_query and b.last > p_after and b.first < p_before
    and (p_since is null or b.latest >= p_since) and (p_until is null or b.earliest < p_until);
end $$;

-- Returns a mission's blocks that may contain such messages, ordered by the time of their newest message, newest first. p_below…: where
-- the previous page ended. The settings leave only the index on words.
create or replace function deck.search_newest(
  p_query tsquery, p_since timestamp, p_until timestamp, p_upto timestamp,
  p_below timestamp, p_below_citizen text, p_below_last bigint, p_most integer)
returns table (citizen text, first bigint, last bigint, latest timestamp)
language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_indexscan = off set enable_indexonlyscan = off set enable_bitmapscan = on as $$
begin
  return query
    select b.citizen, b.first, b.last, b.latest
    from deck.search_blocks b
    where b.words @@ p_query and b.latest is not null
      and (p_since is null or b.latest >= p_since) and (p_until is null or b.earliest < p_until)
      and (p_upto is null or b.earliest <= p_upto)
      and (p_below is null or (b.latest, b.citizen collate "C", b.last) < (p_below, p_below_citizen collate "C", p_below_last))
    order by b.latest desc, b.citizen collate "C" desc, b.last desc limit p_most;
end $$;
