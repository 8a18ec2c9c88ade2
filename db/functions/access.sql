-- Access: revoked subjects and tokens, and the audit log. Operators call deck.revoke() and deck.unrevoke(): their parameters have no
-- prefix.

-- Returns the actor that a trigger writes to the audit log: the user for whom the server acts (`deck.actor`, set for the transaction),
-- otherwise the login role. Any role can set deck.actor, so it is used only if the login is the tables' owner or a member of it.
create or replace function deck.actor() returns text language plpgsql stable security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if pg_has_role(session_user, (select c.relowner from pg_class c where c.oid = 'deck.audit'::regclass), 'usage') then
    return coalesce(nullif(current_setting('deck.actor', true), ''), session_user);
  end if;
  return session_user;
end $$;

-- Audits each deletion of a mission, by the API or by SQL.
create or replace function deck.audit_mission() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  insert into deck.audit (action, actor, mission_id, detail)
  values ('mission.delete', deck.actor(), old.id,
          jsonb_build_object('number', old.number, 'title', old.title, 'client', old.client));
  return null;
end $$;

-- Keeps public.missions.members up to date, and audits each change of a member. Deletes of former members are not audited.
create or replace function deck.note_member() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_row     constant deck.members := case when tg_op = 'DELETE' then old else new end;
  v_was     constant boolean := case when tg_op = 'INSERT' then false else old.ended is null end;
  v_is      constant boolean := case when tg_op = 'DELETE' then false else new.ended is null end;
begin
  -- (Members of one mission change in turn: the next statement sees the others' changes.)
  perform from public.missions m where m.id = v_row.mission_id for no key update;
  if not found or v_was = v_is then
    return null;
  end if;
  update public.missions m
  set members = (select array_agg(x.sub order by x.sub) from deck.members x where x.mission_id = m.id and x.ended is null)
  where m.id = v_row.mission_id;
  insert into deck.audit (action, actor, mission_id, detail)
  values (case when v_is then 'member.put' else 'member.delete' end, deck.actor(), v_row.mission_id, jsonb_build_object('sub', v_row.sub));
  return null;
end $$;

-- Notifies all instances to read the list of revocations again.
create or replace function deck.tell_revocations() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  perform pg_notify('deck', 'revocations');
  return null;
end $$;

-- Revokes a sub (user ID) or a jti (token ID) from now on. Returns false if it was revoked before.
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

-- Accepts a revoked sub or jti again. Returns false if it was not revoked.
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
