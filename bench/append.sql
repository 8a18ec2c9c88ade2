-- One batch of 100 messages for 20 chats, as the server writes it; for pgbench, on a migrated database of its own:
--   psql -f bench/append-setup.sql DB
--   pgbench -n -M prepared -c 1 -t 500 -f bench/append.sql DB
select count(*)
from bench, deck.append(missions, topics, (
  select json_agg(json_build_object(
    'n', n, 'topic', topics[1 + n % 20], 'mission', missions[1 + n % 20], 'citizen', 'rafael', 'id', gen_random_uuid(),
    'sender', 'user', 'author', 'alice', 'message', repeat('x', 200)))
  from generate_series(1, 100) n), 0);
