-- By which instances seal what they tell one another beside the log (src/live/seal): 32 bytes that only the owner may read.
create table deck.seal_key (one boolean primary key default true check (one), key bytea not null);
insert into deck.seal_key (key) values (sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')));
