-- What filters of a chat's history look up: for every 500 messages of a chat one row with all their words, languages and senders and
-- the span of their times. It says where to look, never what is found: the messages themselves are read and compared.
-- Nothing here is written with a message: rows are added behind the writers (log/indexer), and what is newer is looked through.
-- Rows that are changed or removed later are noted, looked through, and the rows here made anew. No foreign keys: nobody waits.

create table if not exists deck.search_blocks (
  mission_id uuid,
  citizen    text,
  first      bigint not null,                -- a chat's blocks follow one another: what is not there is gone
  last       bigint,
  earliest   timestamp,
  latest     timestamp,
  words      tsvector not null,              -- with marks: \1 the chat, \2 a language (bare: one that can't be told here), \3 a sender
  primary key (mission_id, citizen, last)
);
create index if not exists search_blocks_words on deck.search_blocks using gin (words);

-- Messages that were changed or removed after they were numbered. Only inserted by whoever does so.
create table if not exists deck.search_stale (
  id         bigint generated always as identity primary key,
  mission_id uuid not null,
  citizen    text not null,
  first      bigint not null,
  last       bigint not null
);
create index if not exists search_stale_chat on deck.search_stale (mission_id, citizen, first);

-- One row: the instance that does the work, until when.
create table if not exists deck.search_turn (one boolean primary key default true check (one), holder text, until timestamptz not null);
insert into deck.search_turn (until) values ('epoch') on conflict do nothing;

create or replace function deck.note_stale() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'DELETE' then
    insert into deck.search_stale (mission_id, citizen, first, last)
    select mission_id, citizen, min(seq), max(seq) from old_rows where seq is not null group by mission_id, citizen;
  elsif old.seq is not null then
    insert into deck.search_stale (mission_id, citizen, first, last) values (old.mission_id, old.citizen, old.seq, old.seq);
  end if;
  return null;
end $$;
create or replace trigger note_stale after delete on public.chat_messages referencing old table as old_rows
  for each statement execute function deck.note_stale();
-- (The column list leaves numbering alone.)
create or replace trigger note_stale_change after update of sender, message, code_blocks, created_at on public.chat_messages
  for each row execute function deck.note_stale();

-- A text's words, in lower case, as they are written. Addresses, paths, tags and entities are no words of their own: in a chat about
-- code, bot.sendMessage is two words, and what stands in vector<int> is not left away.
create or replace function deck.words(t text) returns tsvector language sql immutable parallel safe
  return to_tsvector('pg_catalog.simple', translate(t, '<>&./\:@~?=%#', '             '));

-- What a block of these messages says: up to `most` of them or 256 KiB; `more` if there are others behind.
-- Languages of Markdown are guessed generously: whatever follows the first fence of a line.
create or replace function deck.search_block(
  mission uuid, who text, after bigint, upto bigint, most integer,
  out more boolean, out last bigint, out earliest timestamp, out latest timestamp, out words tsvector)
language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
begin
  with
    asked as materialized (
      select seq, sender, message, code_blocks, created_at,
        sum(octet_length(message) + coalesce(pg_column_size(code_blocks), 0))
          over (order by seq rows between unbounded preceding and 1 preceding) as ahead
      from public.chat_messages c
      where c.mission_id = mission and c.citizen = who and c.seq > after and c.seq <= upto
      order by c.seq limit most
    ),
    taken as materialized (select * from asked where ahead is null or ahead < 262144),
    languages as (
      select distinct case
          when language ~ '^[ -~]+$' and char_length(language) <= 256 and (given or language !~ '[&\\]') then lower(language collate "C") else '' end as language
      from (
        select b ->> 'language' as language, true as given
        from taken t cross join lateral jsonb_array_elements(case when jsonb_typeof(t.code_blocks) = 'array' then t.code_blocks else '[]' end) b
        where t.code_blocks is not null
        union all
        select substring(f[1] from '^[ \t\v\f]*([^ \t\v\f]+)'), false
        from taken t cross join lateral regexp_matches(t.message, '(?:`{3,}|~{3,})([^\n\r]*)', 'g') f
        where t.code_blocks is null and (t.message like '%```%' or t.message like '%~~~%')
      ) l
      where language is not null
      limit 1001
    ),
    marks as (
      select E'\x01' || mission || who as mark
      union all select distinct E'\x03' || sender from taken
      -- Over a thousand, and any may be among them.
      union all select E'\x02' || language from languages where (select count(*) from languages) <= 1000
      union all select E'\x02' where (select count(*) from languages) > 1000
      union all select w.lexeme from taken t cross join lateral unnest(deck.words(t.message)) w
    )
  select (select count(*) from asked) >= most or (select count(*) from asked) > count(*),
    max(t.seq), min(t.created_at), max(t.created_at), array_to_tsvector(array(select distinct mark from marks))
  into more, last, earliest, latest, words
  from taken t;
end $$;

-- Chats in which a block has come to be full, and those with messages that were changed.
create or replace function deck.search_due() returns table (mission_id uuid, citizen text) language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
begin
  return query
    select t.mission, t.who
    from deck.heads h
    cross join lateral (select substr(h.topic, 10, 36)::uuid as mission, substr(h.topic, 52) as who offset 0) t
    cross join lateral (
      select c.seq from public.chat_messages c where c.mission_id = t.mission and c.citizen = t.who and c.seq is not null
      order by c.seq desc limit 1) n
    left join lateral (
      select b.last from deck.search_blocks b where b.mission_id = t.mission and b.citizen = t.who order by b.last desc limit 1) b on true
    where substr(h.topic, 46, 6) = '/chat/' and n.seq - coalesce(b.last, 0) >= 500
    limit 1000;
end $$;

-- Adds up to `most` blocks of a chat; -> how many there were.
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
    insert into deck.search_blocks (mission_id, citizen, first, last, earliest, latest, words)
    values (mission, who, mark + 1, b.last, b.earliest, b.latest, b.words) on conflict do nothing;
  end loop;
  return most;
end $$;

-- Makes up to `most` blocks anew in which messages were changed or removed, of one chat; true if there may be more to do.
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
    return false;
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
    select n.* into b from deck.search_blocks s
    cross join lateral deck.search_block(mission, who, s.first - 1, s.last, 2147483647) n
    where s.mission_id = mission and s.citizen = who and s.last = at;
    update deck.search_blocks s
    set (earliest, latest, words) = (
      -- More than a block holds (rows have grown): all of it is looked through.
      case when b.more then '-infinity' else b.earliest end, case when b.more then 'infinity' else b.latest end,
      case when b.more then b.words || array_to_tsvector(array[E'\x04']) else b.words end)
    where s.mission_id = mission and s.citizen = who and s.last = at;
  end loop;
  -- All up to the last of them is done, or all if there were fewer.
  if coalesce(cardinality(stale), 0) < most then
    at := 9223372036854775807;
  end if;
  delete from deck.search_stale s where s.id = any (ids) and s.last <= at;
  update deck.search_stale s set first = at + 1 where s.id = any (ids) and s.first <= at;
  return true;
end $$;

-- The blocks that such messages may be in. By its own index only, since no other leads to words.
create or replace function deck.search_candidates(
  query tsquery, since timestamp, until timestamp, after bigint, before bigint, out firsts bigint[], out lasts bigint[])
language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_indexscan = off set enable_indexonlyscan = off set enable_bitmapscan = on as $$
begin
  select array_agg(first order by first), array_agg(last order by first) into firsts, lasts
  from deck.search_blocks b
  where b.words @@ query and b.last > after and b.first < before
    and (since is null or b.latest >= since) and (until is null or b.earliest < until);
end $$;
