-- Each table has a primary key: logical replication refuses to update or delete rows of a table without one.
-- (A key of its own: an item may be noted twice, so that no transaction waits for another one's note.)
alter table deck.unproven add column id uuid not null default gen_random_uuid() primary key;
