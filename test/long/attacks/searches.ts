// Sixty concurrent searches of one subject, for words that do not occur in a long history.
import { attack, keepOn } from './attack.ts'

attack(
  'sixty searches at a time',
  ({ database, id }) =>
    database.query(
      `insert into chat_messages (mission_id, citizen, sender, message)
       select $1, 'c' || n % 20, 'user', 'some words of message ' || n || repeat(' and more', 50) from generate_series(1, 40000) n`,
      [id],
    ),
  (stage) =>
    keepOn(stage, 60, async (n) => {
      const query = n % 2 ? `search?q=words+-some+w${n}` : `chat/c1?q=more+-and&limit=50`
      return (await stage.server.request('GET', `/api/missions/${stage.id}/${query}`, stage.alice)).status
    }),
)
