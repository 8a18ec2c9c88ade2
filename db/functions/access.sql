-- Access: subjects and tokens that are refused, and the audit. deck.revoke() and deck.unrevoke() are for operators: their parameters keep
-- plain names.

-- Who does what a trigger audits: the person in whose name an instance works (`deck.actor`, set for its transaction), otherwise the login.
-- Anybody can set that, so it counts only where the login is the server's: the owner of our tables, or a member of it.
create or replace function deck.actor() returns text language plpgsql stable security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if pg_has_role(session_user, (select c.relowner from pg_class c where c.oid = 'deck.audit'::regclass), 'usage') then
    return coalesce(nullif(current_setting('deck.actor', true), ''), session_user);
  end if;
  return session_user;
end $$;

-- Audits a mission's deletion by any writer: the API names its actor by a setting of the transaction, others are known by their login.
create or replace function deck.audit_mission() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  insert into deck.audit (action, actor, mission_id, detail)
  values ('mission.delete', deck.actor(), old.id,
          jsonb_build_object('number', old.number, 'title', old.title, 'client', old.client));
  return null;
end $$;

-- Every instance reads the list again. (The line names no topic.)
create or replace function deck.tell_revocations() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  perform pg_notify('deck', 'revocations');
  return null;
end $$;

-- Refuses a sub or a jti from now on. Returns false if it was refused already.
create or replace function deck.revoke(name text, by text default session_user) returns boolean language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  p_name alias for $1;
  p_by   alias for $2;
begin
  insert into deck.revocations (name, by) values (p_name, p_by) on conflict do nothing;
  if not found then return false; end if;
  insert into deck.audit (action, actor, detail) values ('revoke', p_by, jsonb_build_object('name', p_name));
  return true;
end $$;

-- Accepts it again. Returns false if it was not refused.
create or replace function deck.unrevoke(name text, by text default session_user) returns boolean language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  p_name alias for $1;
  p_by   alias for $2;
begin
  delete from deck.revocations r where r.name = p_name;
  if not found then return false; end if;
  insert into deck.audit (action, actor, detail) values ('unrevoke', p_by, jsonb_build_object('name', p_name));
  return true;
end $$;
