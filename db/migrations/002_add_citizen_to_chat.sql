-- A chat with every citizen; what was said before was said to rafael.

alter table chat_messages add column if not exists citizen text not null default 'rafael';
create index if not exists idx_chat_mission_citizen on chat_messages (mission_id, citizen);
