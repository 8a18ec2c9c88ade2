-- The word rule (docs/search.md), the same in every database of encoding UTF-8: whatever its locale, its locale provider and the version
-- of Postgres. So classes of characters are those of unicode.sql, compared under the collation "C", and never the locale's; case folding
-- is by table; only NFC is Postgres's own, of characters for which all versions have the same.
-- src/database/search/highlight.ts has the rule once more, for what is highlighted.

-- The version of the rule. Raise it when a text gets other words than before: blocks of search of another version are scanned until
-- they are rebuilt.
create or replace function deck.word_rule() returns integer language sql immutable parallel safe
  return 1;

-- A text that is not ASCII only, as deck.plain returns it.
create or replace function deck.plain_unicode(p_text text) returns text language plpgsql immutable parallel safe as $$
declare
  v_text text collate "C";
  v_fold record;
begin
  -- Between words: what is no letter, digit or mark, and marks that follow no letter. So NFC composes nothing across it.
  v_text := regexp_replace(lower(p_text collate "C"),
    '[^a-z0-9' || deck.letters() || deck.marks() || '][^a-z0-9' || deck.letters() || ']*|^[^a-z0-9' || deck.letters() || ']+', ' ', 'g');
  if v_text is not nfc normalized then
    v_text := normalize(v_text, nfc);
  end if;
  if v_text ~ ('[' || deck.unspaced() || ']') then
    v_text := replace(replace(
      regexp_replace(v_text, '[' || deck.unspaced() || '][' || deck.marks() || ']*', ' \& ', 'g'), '   ', ' '), '  ', ' ');
  end if;
  if v_text ~ ('[A-Z' || deck.cased() || ']') then
    -- (NFC may have made a K of the sign for kelvin.)
    v_text := lower(v_text);
    for v_fold in
      select c.letter, deck.folds()::jsonb ->> c.letter as folded
      from (select distinct u.letter from unnest(string_to_array(regexp_replace(v_text, '[^' || deck.cased() || ']+', '', 'g'), null)) as u (letter)) c
    loop
      v_text := replace(v_text, v_fold.letter, v_fold.folded);
    end loop;
    if v_text is not nfc normalized then
      v_text := normalize(v_text, nfc);
    end if;
  end if;
  return ' ' || v_text || ' ';
end $$;

-- A text's words, folded, one space between two, and one space or more before the first and after the last. `like '% a b %'` on it tells
-- whether a text has the words a and b, one after the other.
create or replace function deck.plain(p_text text) returns text language sql immutable parallel safe
  return case
    when octet_length(p_text) = char_length(p_text) then ' ' || regexp_replace(lower(p_text collate "C"), '[^a-z0-9]+', ' ', 'g') || ' '
    else deck.plain_unicode(p_text) end;

-- A text's words with their places, for ranks: Postgres keeps up to 256 places of a word, up to the 16,383rd, and words up to 2,046 bytes.
create or replace function deck.words(p_text text) returns tsvector language sql immutable parallel safe
  return coalesce((
    select string_agg(w.word || ':' || w.place, ' ') from unnest(string_to_array(btrim(deck.plain(p_text)), ' ')) with ordinality as w (word, place)
    where octet_length(w.word) <= 2046), '')::tsvector;

-- What a block of search holds of a text: its words, and each two unspaced letters that follow one another.
create or replace function deck.block_words(p_text text) returns text[] language plpgsql immutable parallel safe as $$
declare
  v_words text[] := string_to_array(btrim(deck.plain(p_text)), ' ');
begin
  if p_text collate "C" ~ ('[' || deck.unspaced() || ']') then
    v_words := v_words || array(
      select p.word || p.next
      from (
        select distinct w.word, w.next
        from (select u.word, lead(u.word) over (order by u.place) as next from unnest(v_words) with ordinality as u (word, place)) w
      ) p
      where p.word collate "C" ~ ('^[' || deck.unspaced() || ']') and p.next collate "C" ~ ('^[' || deck.unspaced() || ']'));
  end if;
  return v_words;
end $$;
