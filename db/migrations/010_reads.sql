-- How far each sub has read each chat. Without a foreign key: a read does not wait for who is about to delete the mission (and one
-- that overtakes the deletion leaves a row that nobody asks for).
create table if not exists deck.reads (
  mission_id uuid,
  citizen    text,
  sub        text check (octet_length(sub) <= 1024),
  seq        bigint not null,
  primary key (mission_id, citizen, sub)
);

create or replace function deck.forget_reads() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  delete from deck.reads r using old_rows o where r.mission_id = o.id;
  return null;
end $$;
create or replace trigger forget_reads after delete on public.missions referencing old table as old_rows
  for each statement execute function deck.forget_reads();
