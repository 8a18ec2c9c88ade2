-- Each table has a primary key: logical replication refuses to update or delete rows of a table without one.
-- The key is not the item: two transactions may note the same item, and neither waits for the other.
alter table deck.unproven add column id uuid not null default gen_random_uuid() primary key;
