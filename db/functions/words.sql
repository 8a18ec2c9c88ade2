-- The word rule (docs/search.md): how a text is split into words. It gives the same words in every UTF-8 database, independent of locale,
-- locale provider and Postgres version. So character classes come from unicode.sql and are compared under collation "C", and case folding
-- uses a table. Only NFC is done by Postgres, for characters that all versions normalize alike.
-- src/database/search/highlight.ts implements the rule for highlighting.

-- The version of the rule. Raise it if a change of the rule gives any text different words. Search blocks of other versions are scanned
-- until they are rebuilt.
create or replace function deck.word_rule() returns integer language sql immutable parallel safe
  return 1;

-- deck.plain() for a text with characters outside ASCII.
create or replace function deck.plain_unicode(p_text text) returns text language plpgsql immutable parallel safe as $$
declare
  v_text text collate "C";
  v_fold record;
begin
  -- Replaces separators by a space: characters that are no letter, digit or mark, and marks that follow no letter. So NFC never composes
  -- characters of two words.
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
    -- (NFC turns the kelvin sign into a capital K.)
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

-- Returns a text's case-folded words, separated by single spaces, with at least one space before the first and after the last word.
-- `like '% a b %'` on the result tests whether the text has the words a and b in sequence.
create or replace function deck.plain(p_text text) returns text language sql immutable parallel safe
  return case
    when octet_length(p_text) = char_length(p_text) then ' ' || regexp_replace(lower(p_text collate "C"), '[^a-z0-9]+', ' ', 'g') || ' '
    else deck.plain_unicode(p_text) end;

-- Returns a text's words with their positions, for ranking. Postgres keeps at most 256 positions of a word, positions up to 16,383, and words
-- up to 2,046 bytes.
create or replace function deck.words(p_text text) returns tsvector language sql immutable parallel safe
  return coalesce((
    select string_agg(w.word || ':' || w.place, ' ') from unnest(string_to_array(btrim(deck.plain(p_text)), ' ')) with ordinality as w (word, place)
    where octet_length(w.word) <= 2046), '')::tsvector;

-- Returns the words of a text for a search block: its words, and each pair of adjacent letters of a script without spaces.
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
