-- Adopts a database at migration 022_scale, the last of the version before: runs once, instead of 004_deck.sql, in the transaction that
-- then applies db/functions. Tables, indexes, constraints and triggers are those of 004_deck.sql already: it locks no table.

-- No version that can run beside this one uses these.
drop function deck.append(uuid[], text[], json, integer);
drop function deck.append_unmarked(uuid[], text[], json, integer);
drop function deck.give_seqs();
drop view deck.change;

-- db/functions defines these again, with prefixed names of parameters, which `create or replace` can't change. Types and result columns
-- are the same: instances of the version before call them as they did.
drop routine
  deck.iso(timestamp),
  deck.mission_json(public.missions),
  deck.dod_item_json(public.dod_items),
  deck.test_run_json(public.test_runs),
  deck.log_json(uuid, uuid, text),
  deck.hint(text[], bigint[]),
  deck.remove_messages(uuid, text, bigint, boolean),
  deck.clear_chat(uuid, text, text),
  deck.log_text(uuid, uuid),
  deck.fold_log(uuid, uuid),
  deck.append_log(uuid, uuid, text),
  deck.hint_channel(text),
  deck.save_messages(text[], integer[], uuid[], text[], text[], text[], text[], text[], text[], boolean[], text[], integer, text),
  deck.append_messages(text[], integer[], uuid[], text[], text[], text[], text[], text[], text[], boolean[], text[], integer, text, json, json, json, text),
  deck.open_inbox(text),
  deck.find_tasks(text, uuid[], integer),
  deck.claim_tasks(text, uuid[], uuid[], integer[], integer),
  deck.append_replies(text[], integer[], uuid[], text[], text[], text[], text[], text[], text[], boolean[], text[], integer, text, uuid[], uuid[], json, json, json, text),
  deck.words(text),
  deck.search_block(uuid, text, bigint, bigint, integer),
  deck.search_index(uuid, text, integer),
  deck.search_mend(integer),
  deck.search_candidates(tsquery, timestamp, timestamp, bigint, bigint),
  deck.test_word(jsonb),
  deck.worst(text[]),
  deck.tests_of(jsonb),
  deck.evidence_of(uuid, text),
  deck.seq_at(text, uuid, text, timestamp, boolean),
  deck.import_messages(text[], integer[], uuid[], text[], text[], text[], text[], text[], timestamp[], boolean),
  deck.folded_log(uuid, uuid, bigint),
  deck.folded_upto(public.test_runs),
  deck.make_room(uuid, integer),
  deck.restore(text, text[]),
  deck.restored(uuid[], text),
  deck.size_log(text),
  deck.pieces(text),
  deck.search_renew(uuid, text, bigint),
  deck.search_newest(tsquery, timestamp, timestamp, timestamp, timestamp, text, bigint, integer),
  deck.give_seqs(boolean),
  deck.prune_chat(uuid, text, bigint, bigint, integer),
  deck.prunable_runs(uuid, timestamp, timestamp, uuid, integer),
  deck.prune_runs(uuid, timestamp, timestamp, uuid, integer, bigint),
  deck.prune_events(text, bigint, bigint, integer, boolean);
