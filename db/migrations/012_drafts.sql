-- Replies that are still being written: what their writers' instances saved last. Unlogged: a crash of Postgres may forget them.
-- Whoever opens or continues one raises its generation; what an older generation saves is refused.
create unlogged table if not exists deck.drafts (
  mission_id uuid,
  citizen    text,
  key        text check (octet_length(key) <= 64),
  author     text not null,
  generation bigint not null default 1,
  text       text not null default '',
  units      integer not null default 0,      -- of the text, in UTF-16 code units
  aborted    boolean not null default false,  -- it was silent for too long; its writer may still go on
  touched    timestamptz not null default clock_timestamp(),
  primary key (mission_id, citizen, key)
);
create index if not exists drafts_touched on deck.drafts (touched);
