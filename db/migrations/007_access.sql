-- Who may do what, beyond the token: who was shut out, tickets that stand for a token for some seconds, and the audit.

-- Subjects and tokens that are refused: `name` is a token's sub or its jti. A row counts from its commit on, everywhere.
create table if not exists deck.revocations (
  id   bigint generated always as identity,
  name text primary key check (octet_length(name) between 1 and 1024),
  by   text not null,
  at   timestamp not null default (now() at time zone 'utc')
);

-- Single-use tickets, by the SHA-256 of what was given out; `actor` is what the token said. Of no use after 30 s, so unlogged.
create unlogged table if not exists deck.tickets (
  digest     bytea primary key,
  actor      jsonb not null,
  expires_at timestamptz not null
);
create index if not exists tickets_expires_at on deck.tickets (expires_at);

-- What was done with more than a user's rights. Outlives its mission; nothing of ours changes or deletes a row.
create table if not exists deck.audit (
  id         bigint generated always as identity primary key,
  at         timestamp not null default (clock_timestamp() at time zone 'utc'),
  action     text not null check (action in ('chat.clear', 'mission.delete', 'message.as', 'revoke', 'unrevoke')),
  actor      text not null,                  -- the sub of the token, or who ran the command
  mission_id uuid,
  detail     jsonb not null default '{}',
  db_user    text not null default session_user
);
create index if not exists audit_at on deck.audit (at);

-- Deleted missions, by whomever: the API names its actor by a setting of the transaction, others are known by their login.
create or replace function deck.audit_mission() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  insert into deck.audit (action, actor, mission_id, detail)
  values ('mission.delete', coalesce(nullif(current_setting('deck.actor', true), ''), session_user), old.id,
          jsonb_build_object('number', old.number, 'title', old.title, 'client', old.client));
  return null;
end $$;
create or replace trigger audit_deleted after delete on public.missions
  for each row execute function deck.audit_mission();

-- Every instance looks at the list again; the line is none that names a topic.
create or replace function deck.tell_revocations() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  perform pg_notify('deck', 'revocations');
  return null;
end $$;
create or replace trigger tell after insert or update or delete on deck.revocations
  for each statement execute function deck.tell_revocations();

-- Shuts out a sub or a jti; -> false if it was shut out already.
create or replace function deck.revoke(name text, by text default session_user) returns boolean language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  insert into deck.revocations (name, by) values (revoke.name, revoke.by) on conflict do nothing;
  if not found then return false; end if;
  insert into deck.audit (action, actor, detail) values ('revoke', revoke.by, jsonb_build_object('name', revoke.name));
  return true;
end $$;

-- Lets it in again; -> false if it was not shut out.
create or replace function deck.unrevoke(name text, by text default session_user) returns boolean language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  delete from deck.revocations r where r.name = unrevoke.name;
  if not found then return false; end if;
  insert into deck.audit (action, actor, detail) values ('unrevoke', unrevoke.by, jsonb_build_object('name', unrevoke.name));
  return true;
end $$;
