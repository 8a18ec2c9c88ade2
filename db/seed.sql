-- Two example missions with their checklists, chats and a test run, and what to ask each citizen. Idempotent: existing rows are left
-- unchanged.

update deck.citizens c set about = d.about
from (values
  ('emma', 'What is in scope, what is not, and what a change would cost.'),
  ('inna', 'What exactly is to be built: requirements, edge cases, acceptance criteria.'),
  ('rafael', 'How to build it: code, libraries, bugs.'),
  ('sofia', 'Whether it works: tests, their results, missing evidence.'),
  ('maya', 'How it ships: deployment, hand-over, documents for the client.')
) as d (name, about)
where c.name = d.name and c.about is null;

insert into missions (id, number, title, client, budget, deadline, status, assigned_to, github_url, created_at) values
  ('47000000-0000-4000-8000-000000000047', 47, 'Telegram Notifier', 'Acme Corp', 300, '2025-11-08 23:59:59', 'active',
   'person1@scopelock.ai', 'https://github.com/mind-protocol/mission-47', '2025-11-05 09:00:00'),
  ('48000000-0000-4000-8000-000000000048', 48, 'Landing Page', 'Beta Inc', 450, '2025-11-10 23:59:59', 'active',
   'person1@scopelock.ai', 'https://github.com/mind-protocol/mission-48', '2025-11-05 09:30:00')
on conflict do nothing;

insert into dod_items (id, mission_id, text, category, completed, completed_at)
select d.id::uuid, m.id, d.text, d.category, d.completed_at is not null, d.completed_at::timestamp
from (values
  ('47000000-0000-4000-8000-000000000101', 47, 'A message on Telegram for every new proposal', 'functional', '2025-11-06 10:00:00'),
  ('47000000-0000-4000-8000-000000000102', 47, 'Inline buttons approve or reject it', 'functional', null),
  ('47000000-0000-4000-8000-000000000103', 47, 'A notification arrives within two seconds', 'non-functional', null),
  ('47000000-0000-4000-8000-000000000104', 47, 'Unit tests for sending and for the callbacks', 'tests', null),
  ('48000000-0000-4000-8000-000000000101', 48, 'One page with headline, offer and contact form', 'functional', null),
  ('48000000-0000-4000-8000-000000000102', 48, 'Lighthouse performance of 90 or more', 'non-functional', null),
  ('48000000-0000-4000-8000-000000000103', 48, 'The form is tested end to end', 'tests', null)
) as d (id, number, text, category, completed_at)
join missions m on m.id = (d.number || '000000-0000-4000-8000-0000000000' || d.number)::uuid
on conflict do nothing;

insert into chat_messages (id, mission_id, citizen, sender, message, code_blocks, created_at)
select c.id::uuid, m.id, c.citizen, c.sender, c.message, c.code_blocks::jsonb, c.created_at::timestamp
from (values
  ('47000000-0000-4000-8000-000000000201', 'rafael', 'user', 'How do I add inline buttons?', null, '2025-11-06 09:15:00'),
  ('47000000-0000-4000-8000-000000000202', 'rafael', 'citizen', E'Pass a reply markup with the message:\n\n```python\nkeyboard = [[InlineKeyboardButton("Approve", callback_data="approve"),\n             InlineKeyboardButton("Reject", callback_data="reject")]]\nawait bot.send_message(chat_id, text, reply_markup=InlineKeyboardMarkup(keyboard))\n```\n\nThen handle the callback by its data.',
   '[{"language": "python", "code": "keyboard = [[InlineKeyboardButton(\"Approve\", callback_data=\"approve\"),\n             InlineKeyboardButton(\"Reject\", callback_data=\"reject\")]]\nawait bot.send_message(chat_id, text, reply_markup=InlineKeyboardMarkup(keyboard))\n"}]',
   '2025-11-06 09:16:00'),
  ('47000000-0000-4000-8000-000000000203', 'sofia', 'user', 'Did the tests pass?', null, '2025-11-06 11:00:00'),
  ('47000000-0000-4000-8000-000000000204', 'sofia', 'citizen', E'8 of 10 do. The callback handler fails:\n\n```python\ndef test_callback_handler():\n    assert handle({"data": "approve"}) == "approved"   # KeyError: callback_data\n```',
   '[{"language": "python", "code": "def test_callback_handler():\n    assert handle({\"data\": \"approve\"}) == \"approved\"   # KeyError: callback_data\n"}]',
   '2025-11-06 11:01:00')
) as c (id, citizen, sender, message, code_blocks, created_at)
join missions m on m.id = '47000000-0000-4000-8000-000000000047'
on conflict do nothing;

insert into test_runs (id, mission_id, status, summary, results, logs, created_at)
select '47000000-0000-4000-8000-000000000301', m.id, 'passed',
  '{"functional_passed": 8, "functional_total": 10, "performance_passed": 2, "performance_total": 3}',
  '[{"name": "test_send_message", "status": "passed"}, {"name": "test_callback_handler", "status": "failed", "error": "KeyError: callback_data"}]',
  E'test_send_message ... ok\ntest_callback_handler ... FAILED (KeyError: callback_data)\n', '2025-11-06 11:00:30'
from missions m where m.id = '47000000-0000-4000-8000-000000000047'
on conflict do nothing;
