-- Numbering and weighing declare what they write by the depth of triggers at which they do so, instead of by 'on': what a trigger of the
-- database's owner writes meanwhile, one level deeper, is numbered like any other change.
do $$
declare t record;
begin
  for t in
    select pg_get_triggerdef(g.oid) as definition from pg_trigger g
    where g.tgrelid in ('public.missions'::regclass, 'public.dod_items'::regclass, 'public.test_runs'::regclass, 'public.chat_messages'::regclass)
      and pg_get_triggerdef(g.oid) ~ '''deck\.(numbering|weighing)'''
  loop
    execute replace(replace(t.definition, 'CREATE TRIGGER', 'CREATE OR REPLACE TRIGGER'), '''on''::text', '(pg_trigger_depth())::text');
  end loop;
end $$;
