// Moves a mission's events to earlier times, so that tests and screenshots have a realistic timeline. Never for a live mission: only the
// database's owner may do this, and followers are not notified.
import type pg from 'pg'
import type { Instance, Json } from '../support/server.ts'

/** `minutesAgo` gives the nth event's age. Resolves with the events' new times. */
export const retell = async (
  instance: Instance,
  database: { connect(): Promise<pg.Client | pg.PoolClient> },
  token: string,
  id: string,
  minutesAgo: (n: number, of: number) => number,
): Promise<string[]> => {
  const { json } = await instance.request('GET', `/api/missions/${id}/timeline?limit=500`, token)
  const events = json['events'] as Json[]
  const client = await database.connect()
  const times: string[] = []
  await client.query(
    'begin; alter table chat_messages disable trigger user; alter table deck.events disable trigger user',
  )
  for (const [n, { topic, seq }] of events.entries()) {
    const [, , part = '', citizen] = String(topic).split('/')
    const { rows } = await client.query<{ at: string }>(
      `update ${part === 'chat' ? 'chat_messages' : 'deck.events'}
       set at = date_trunc('second', now() at time zone 'utc') - interval '1 second' * $1
       where ${part === 'chat' ? 'mission_id = $2::uuid and citizen = $4' : `topic = $2 and $4::text is not null`} and seq = $3
       returning to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as at`,
      [Math.round(minutesAgo(n, events.length) * 60), part === 'chat' ? id : topic, seq, citizen ?? ''],
    )
    times.push(rows[0]?.at ?? '')
  }
  await client.query(
    'alter table chat_messages enable trigger user; alter table deck.events enable trigger user; commit',
  )
  return times
}
