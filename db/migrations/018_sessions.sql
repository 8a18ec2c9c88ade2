-- Signing in: people, their sessions, invites, and keys of citizens. Of a secret only the SHA-256 is stored.

-- People who have signed in.
create table deck.people (
  sub       text primary key check (octet_length(sub) between 1 and 1024),
  name      text check (octet_length(name) <= 1024),
  role      text not null,                     -- that of the newest session
  last_seen timestamptz not null default now()
);

-- Sessions: a session is good for 30 days after its last use. To end one deletes its row, and adds a revocation for the tokens that it gave.
create table deck.sessions (
  id         uuid primary key default gen_random_uuid(),  -- the claim sid of its tokens
  digest     bytea not null unique,                       -- of the cookie
  sub        text not null references deck.people,
  role       text not null check (role in ('user', 'citizen', 'admin')),
  missions   jsonb,                                       -- the claim of its tokens
  provider   boolean not null,                            -- from the identity provider, not from an invite
  created_at timestamptz not null default now(),
  last_used  timestamptz not null default now()
);
create index sessions_sub on deck.sessions (sub);
create index sessions_last_used on deck.sessions (last_used);

-- Single-use codes that start a session: links for people, and codes for the command line, which also need the verifier of `challenge`.
create table deck.invites (
  digest     bytea primary key,
  sub        text not null check (octet_length(sub) between 1 and 1024),
  role       text not null check (role in ('user', 'citizen', 'admin')),
  missions   jsonb,
  provider   boolean not null default false,
  challenge  text,
  by         text not null,
  expires_at timestamptz not null
);
create index invites_expires_at on deck.invites (expires_at);

-- Answers of the identity provider that were used. Each is accepted once.
create unlogged table deck.used_states (
  digest     bytea primary key,
  expires_at timestamptz not null
);
create index used_states_expires_at on deck.used_states (expires_at);

-- Keys of citizens: tokens whose jti is the id. A key that was taken back has no row here, and a revocation.
create table deck.citizen_keys (
  id         uuid primary key default gen_random_uuid(),
  citizen    text not null check (citizen ~ '^[a-z][a-z0-9_-]{0,31}$'),
  missions   jsonb,
  by         text not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null
);
create index citizen_keys_citizen on deck.citizen_keys (citizen);

-- A revocation of a session or a key is needed until its tokens have expired.
alter table deck.revocations add column expires_at timestamptz;
