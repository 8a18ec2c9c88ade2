-- What is ready of each chat's next search block: deck.search_slice() adds a part a call, so that no statement is long. Unlogged: after a
-- crash it is built again.
create unlogged table deck.search_parts (
  mission_id uuid not null,
  citizen    text not null,
  last       bigint not null,
  rows       integer not null,
  bytes      bigint not null,
  earliest   timestamp not null,
  latest     timestamp not null,
  words      tsvector not null,
  rule       integer not null,
  primary key (mission_id, citizen, last)
);
