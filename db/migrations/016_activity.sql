-- What a message's writer did and used, if it reported that: { activity?: [{ id, line, status, ms }], usage?: {} }; or who redacted it:
-- { redacted: { by, at } }.
alter table public.chat_messages add column details jsonb;

-- (A constraint would have to read all rows once. Strict, so that it is not called for other messages.)
create function deck.valid_details(p_details jsonb) returns boolean language plpgsql immutable strict parallel safe
set search_path = pg_catalog as $$
begin
  if jsonb_typeof(p_details) <> 'object' or octet_length(p_details::text) > 262144 then
    return false;
  end if;
  return p_details <> '{}' and p_details - array['activity', 'usage', 'redacted'] = '{}' and coalesce(jsonb_typeof(p_details -> 'usage'), 'object') = 'object'
    and case
      when not p_details ? 'activity' then true
      when jsonb_typeof(p_details -> 'activity') <> 'array' then false
      else jsonb_array_length(p_details -> 'activity') between 1 and 50 and (
        select bool_and(coalesce(case
          when jsonb_typeof(e) = 'object' then
            coalesce(jsonb_typeof(e -> 'id') = 'string' and char_length(e ->> 'id') between 1 and 64, true)
            and jsonb_typeof(e -> 'line') = 'string' and char_length(e ->> 'line') between 1 and 200
            and e ->> 'status' in ('running', 'done', 'failed')
            and jsonb_typeof(e -> 'ms') = 'number' and e ->> 'ms' ~ '^[0-9]{1,15}$' end, false))
        from jsonb_array_elements(p_details -> 'activity') e) end;
end $$;
create trigger refuse_details before insert or update of details on public.chat_messages for each row
  when (not deck.valid_details(new.details)) execute function deck.refuse('details needs activity or usage');

-- The activity of a draft, as JSON: its steps in order. `changes` counts the reports of steps: of two copies the one with more is newer.
alter table deck.drafts
  add column activity text,
  add column changes  integer not null default 0;

-- A task's question has what its sender used, too.
alter type deck.given_task add attribute details text;
