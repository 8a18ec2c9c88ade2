-- The version of the word rule (deck.word_rule()) that a block's words are of; 0: from before there was one.
alter table deck.search_blocks add column rule integer not null default 0;
create index search_blocks_rule on deck.search_blocks (rule, mission_id, citizen, last);
