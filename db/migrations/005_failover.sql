-- The timeline for which the salt was drawn, as eight hex digits. On any other timeline deck.greet() draws a new salt.
alter table deck.epoch_salt add column timeline text;
update deck.epoch_salt set timeline = left(pg_walfile_name(pg_current_wal_insert_lsn()), 8);

-- Written to where a message could not be, to know when it can: each row takes a page of its own (deck.try_writing).
create table deck.write_tests (id bigint generated always as identity primary key, filler text not null);
alter table deck.write_tests alter column filler set storage plain;
