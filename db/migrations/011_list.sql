-- Tells every instance which mission changed, came or went, and to whom it is and was assigned: who may see it learns of it.
-- (The line names no topic: instances of the version before pass it over.)
create or replace function deck.tell_mission() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  mission public.missions;
  -- A notification has room for 8,000 bytes, and must not end somebody's transaction.
  assigned text[] := '{}';
begin
  if tg_op <> 'INSERT' then
    mission := old;
    assigned := assigned || old.assigned_to;
  end if;
  if tg_op <> 'DELETE' then
    mission := new;
    assigned := assigned || new.assigned_to;
  end if;
  assigned := array(select name from unnest(assigned) name where char_length(name) <= 256);
  perform pg_notify('deck', 'missions ' || json_build_object('id', mission.id, 'number', mission.number, 'assigned', assigned));
  return null;
end $$;
create or replace trigger tell after insert or delete on public.missions
  for each row execute function deck.tell_mission();
create or replace trigger tell_change after update on public.missions
  for each row when (to_jsonb(new) - 'seq' <> to_jsonb(old) - 'seq') execute function deck.tell_mission();
