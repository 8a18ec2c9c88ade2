-- Search over all of a mission: the blocks of its chats (014_search.sql) hold the words of code as well, each behind a mark of
-- its own, so that code is looked for where it is. A block that was made before this file is looked through for code until it
-- was made anew, behind the writers like all others.

alter table deck.search_blocks add column if not exists code boolean not null default false;
create index if not exists search_blocks_old on deck.search_blocks (mission_id, citizen, last) where not code;

-- What a block of these messages says, as before, and \5 before each word of code. Its messages hold 256 KiB as they are, not as
-- they are stored: code may be packed a hundredfold. Of Markdown, whatever follows the first fence is taken for code.
create or replace function deck.search_block(
  mission uuid, who text, after bigint, upto bigint, most integer,
  out more boolean, out last bigint, out earliest timestamp, out latest timestamp, out words tsvector)
language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  r record;
  rows integer := 0;
  bytes bigint := 0;
begin
  more := false;
  for r in
    select c.seq, octet_length(c.message) as size, c.code_blocks from public.chat_messages c
    where c.mission_id = mission and c.citizen = who and c.seq > after and c.seq <= upto
    order by c.seq limit most
  loop
    more := bytes >= 262144;
    exit when more;
    last := r.seq;
    rows := rows + 1;
    bytes := bytes + r.size + case when r.code_blocks is null then 0 else octet_length(r.code_blocks::text) end;
  end loop;
  more := more or rows >= most;
  with
    taken as materialized (
      select c.seq, c.sender, c.message, c.code_blocks, c.created_at from public.chat_messages c
      where c.mission_id = mission and c.citizen = who and c.seq > after and c.seq <= search_block.last
    ),
    given as materialized (
      select b ->> 'language' as language, b ->> 'code' as code
      from taken t cross join lateral jsonb_array_elements(case when jsonb_typeof(t.code_blocks) = 'array' then t.code_blocks else '[]' end) b
      where t.code_blocks is not null
    ),
    fenced as materialized (
      select t.message from taken t where t.code_blocks is null and (t.message like '%```%' or t.message like '%~~~%')
    ),
    languages as (
      select distinct case
          when language ~ '^[ -~]+$' and char_length(language) <= 256 and (given or language !~ '[&\\]') then lower(language collate "C") else '' end as language
      from (
        select language, true as given from given
        union all
        select substring(m[1] from '^[ \t\v\f]*([^ \t\v\f]+)'), false
        from fenced f cross join lateral regexp_matches(f.message, '(?:`{3,}|~{3,})([^\n\r]*)', 'g') m
      ) l
      where language is not null
      limit 1001
    ),
    marks as materialized (
      select distinct mark from (
        select E'\x01' || mission || who as mark
        union all select distinct E'\x03' || sender from taken
        -- Over a thousand, and any may be among them.
        union all select E'\x02' || language from languages where (select count(*) from languages) <= 1000
        union all select E'\x02' where (select count(*) from languages) > 1000
        union all select w.lexeme from taken t cross join lateral unnest(deck.words(t.message)) w
        union all select E'\x05' || w.lexeme
          from (select code from given union all select substring(message from '(?:`{3,}|~{3,}).*') from fenced) c
          cross join lateral unnest(deck.words(c.code)) w
      ) all_of_them
    )
  select min(t.created_at), max(t.created_at), array_to_tsvector(
    -- A tsvector holds a megabyte. What has more words is looked through.
    case when (select sum(octet_length(mark)) from marks) <= 1000000 then array(select mark from marks)
      else array[E'\x01' || mission || who, E'\x04'] end)
  into earliest, latest, words
  from taken t;
end $$;

-- Chats in which a block has come to be full. As before, but the citizen's name in the collation of its columns: in that of topics
-- no index of theirs fits, and with 10 million messages this took 21 s.
create or replace function deck.search_due() returns table (mission_id uuid, citizen text) language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
begin
  return query
    select t.mission, t.who
    from deck.heads h
    cross join lateral (
      select substr(h.topic, 10, 36)::uuid as mission, substr(h.topic, 52) collate "default" as who offset 0) t
    cross join lateral (
      select c.seq from public.chat_messages c where c.mission_id = t.mission and c.citizen = t.who and c.seq is not null
      order by c.seq desc limit 1) n
    left join lateral (
      select b.last from deck.search_blocks b where b.mission_id = t.mission and b.citizen = t.who order by b.last desc limit 1) b on true
    where substr(h.topic, 46, 6) = '/chat/' and n.seq - coalesce(b.last, 0) >= 500
    limit 1000;
end $$;

-- As before; what it adds knows its code.
create or replace function deck.search_index(mission uuid, who text, most integer) returns integer language plpgsql
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  mark bigint;
  b record;
begin
  for n in 1 .. most loop
    mark := coalesce((
      select last from deck.search_blocks s where s.mission_id = mission and s.citizen = who order by s.last desc limit 1), 0);
    select * into b from deck.search_block(mission, who, mark, 9223372036854775807, 500);
    if not b.more then
      return n - 1;
    end if;
    insert into deck.search_blocks (mission_id, citizen, first, last, earliest, latest, words, code)
    values (mission, who, mark + 1, b.last, b.earliest, b.latest, b.words, true) on conflict do nothing;
  end loop;
  return most;
end $$;

-- Makes a block anew from its messages as they are.
create or replace function deck.search_renew(mission uuid, who text, at bigint) returns void language plpgsql
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  b record;
begin
  select n.* into b from deck.search_blocks s
  cross join lateral deck.search_block(mission, who, s.first - 1, s.last, 2147483647) n
  where s.mission_id = mission and s.citizen = who and s.last = at;
  update deck.search_blocks s
  set code = true, (earliest, latest, words) = (
    -- More than a block holds (rows have grown): all of it is looked through.
    case when b.more then '-infinity' else b.earliest end, case when b.more then 'infinity' else b.latest end,
    case when b.more then b.words || array_to_tsvector(array[E'\x04']) else b.words end)
  where s.mission_id = mission and s.citizen = who and s.last = at;
end $$;

-- Makes up to `most` blocks anew, of one chat: of those in which messages were changed or removed, or else of those from before
-- this file; true if there may be more to do.
create or replace function deck.search_mend(most integer) returns boolean language plpgsql
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  mission uuid;
  who text;
  ids bigint[];
  stale bigint[];
  lowest bigint;
  at bigint;
  b record;
begin
  select s.mission_id, s.citizen into mission, who from deck.search_stale s order by s.id limit 1;
  if not found then
    -- The newest first.
    for b in
      select s.mission_id, s.citizen, s.last from deck.search_blocks s
      where not s.code order by s.mission_id desc, s.citizen desc, s.last desc limit most
    loop
      perform deck.search_renew(b.mission_id, b.citizen, b.last);
    end loop;
    return found;
  end if;
  -- What is noted here has been committed: the statements below see it.
  select array_agg(id) into ids from (
    select s.id from deck.search_stale s where s.mission_id = mission and s.citizen = who order by s.first limit 500) x;
  select c.seq into lowest from public.chat_messages c
  where c.mission_id = mission and c.citizen = who and c.seq is not null order by c.seq limit 1;
  delete from deck.search_blocks s where s.mission_id = mission and s.citizen = who and s.last < coalesce(lowest, 9223372036854775807);

  select array_agg(last order by last) into stale from (
    select distinct o.last
    from unnest(ids) i
    cross join lateral (select * from deck.search_stale where id = i limit 1) s
    cross join lateral (
      select o.last from deck.search_blocks o
      where o.mission_id = mission and o.citizen = who and o.last >= s.first and o.last <= (
        select u.last from deck.search_blocks u
        where u.mission_id = mission and u.citizen = who and u.last >= least(s.last, (
          select v.last from deck.search_blocks v where v.mission_id = mission and v.citizen = who order by v.last desc limit 1))
        order by u.last limit 1)
      order by o.last limit most) o
    order by o.last limit most) x;
  foreach at in array coalesce(stale, '{}') loop
    perform deck.search_renew(mission, who, at);
  end loop;
  -- All up to the last of them is done, or all if there were fewer.
  if coalesce(cardinality(stale), 0) < most then
    at := 9223372036854775807;
  end if;
  delete from deck.search_stale s where s.id = any (ids) and s.last <= at;
  update deck.search_stale s set first = at + 1 where s.id = any (ids) and s.first <= at;
  return true;
end $$;

-- Of a mission's blocks those that such messages may be in, by their newest message, the newest first, below a place in that order.
-- By its own index only, since no other leads to words.
create or replace function deck.search_newest(
  query tsquery, since timestamp, until timestamp, upto timestamp, below timestamp, below_citizen text, below_last bigint, most integer)
returns table (citizen text, first bigint, last bigint, latest timestamp)
language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_indexscan = off set enable_indexonlyscan = off set enable_bitmapscan = on as $$
begin
  return query
    select b.citizen, b.first, b.last, b.latest
    from deck.search_blocks b
    where b.words @@ query and b.latest is not null
      and (since is null or b.latest >= since) and (until is null or b.earliest < until) and (upto is null or b.earliest <= upto)
      and (below is null or (b.latest, b.citizen collate "C", b.last) < (below, below_citizen collate "C", below_last))
    order by b.latest desc, b.citizen collate "C" desc, b.last desc limit most;
end $$;
