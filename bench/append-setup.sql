-- Twenty missions, each with a chat that has its head.
insert into missions (title, client, budget, deadline, status, assigned_to)
select 'bench', 'bench', 1, now(), 'active', 'alice' from generate_series(1, 20);
insert into chat_messages (mission_id, citizen, sender, message) select id, 'rafael', 'user', 'first' from missions where title = 'bench';
create table bench as
select array_agg(id order by id) as missions, array_agg('missions/' || id || '/chat/rafael' order by id) as topics
from missions where title = 'bench';
