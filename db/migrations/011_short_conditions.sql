-- A trigger's condition is stored as text, which every statement parses and plans anew: by a function it takes a third as long.
--
-- Whether this statement is part of numbering: it declares that by the depth of triggers, and proves it by a privilege on the heads.
-- (plpgsql: an SQL function would be parsed and planned, too. Qualified throughout: it runs with the writer's search path.)
create function deck.numbers() returns boolean language plpgsql stable parallel safe as $$
begin
  if coalesce(pg_catalog.current_setting('deck.numbering', true), '') operator(pg_catalog.<>) pg_catalog.pg_trigger_depth()::pg_catalog.text then
    return false;
  end if;
  return pg_catalog.has_schema_privilege('deck', 'usage') and pg_catalog.has_table_privilege('deck.heads', 'update');
end $$;

do $$
declare t text;
begin
  foreach t in array array['missions', 'dod_items', 'test_runs'] loop
    execute format($c$
      create or replace trigger refuse_seq before insert on public.%1$I for each row
        when (new.seq <> 0 and not deck.numbers()) execute function deck.refuse('seq is given by the database');
      create or replace trigger refuse_seq_change before update on public.%1$I for each row
        when (new.seq is distinct from old.seq and not deck.numbers()) execute function deck.refuse('seq is given by the database');
      create or replace trigger note_updated after update on public.%1$I referencing old table as old_rows new table as new_rows
        for each statement when (not deck.numbers()) execute function deck.note_%1$s()
    $c$, t);
  end loop;
end $$;
create or replace trigger refuse_seq before insert on public.chat_messages for each row
  when ((new.seq is not null or new.at is not null) and not deck.numbers()) execute function deck.refuse('seq is given by the database');
create or replace trigger refuse_seq_change before update on public.chat_messages for each row
  when ((new.seq is distinct from old.seq or new.at is distinct from old.at) and not deck.numbers())
  execute function deck.refuse('seq is given by the database');
create or replace trigger note_inserted after insert on public.chat_messages referencing new table as new_rows
  for each statement when (not deck.numbers()) execute function deck.note_messages();
create or replace trigger note_logs after update of logs on public.test_runs
  for each row when (not deck.numbers()) execute function deck.note_logs();
create or replace trigger give_completed_at before insert or update on public.dod_items
  for each row when (coalesce(new.completed, false) <> (new.completed_at is not null) and not deck.numbers())
  execute function deck.give_completed_at();

-- The words of a block go into the index at once. A pending list would be flushed by the statement that fills it, in 0.2 s.
alter index deck.search_blocks_words set (fastupdate = off);
select gin_clean_pending_list('deck.search_blocks_words');
