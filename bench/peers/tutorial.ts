// The design of the tutorials: a pool, one INSERT a message, a trigger that notifies with the row, a LISTEN that broadcasts it.
import type { AddressInfo } from 'node:net'
import pg from 'pg'
import { WebSocketServer, type WebSocket } from 'ws'

const connectionString = process.env['DATABASE_URL']
const pool = new pg.Pool({ connectionString, max: 10 })
await pool.query(`
  create table if not exists messages (id bigserial primary key, room text not null, text text not null, created_at timestamptz not null default now());
  create index if not exists messages_room on messages (room, id);
  create or replace function tell() returns trigger language plpgsql as $$
    begin perform pg_notify('chat', row_to_json(new)::text); return null; end $$;
  create or replace trigger tell after insert on messages for each row execute function tell();
`)
const rooms = new Map<string, Set<WebSocket>>()
const listener = new pg.Client({ connectionString })
await listener.connect()
listener.on('notification', ({ payload = '' }) => {
  const { room } = JSON.parse(payload) as { room: string }
  const frame = `{"t":"message","data":${payload}}`
  for (const socket of rooms.get(room) ?? []) socket.send(frame)
})
await listener.query('listen chat')

const server = new WebSocketServer({ host: '127.0.0.1', port: 0 })
server.on('connection', (socket) => {
  socket.on('message', (data: Buffer) => {
    const { t, id, room, text } = JSON.parse(data.toString()) as { t: string; id: number; room: string; text: string }
    if (t === 'join') {
      rooms.set(room, (rooms.get(room) ?? new Set()).add(socket))
      socket.send('{"t":"joined"}')
      return
    }
    void pool
      .query({
        name: 'save',
        text: 'insert into messages (room, text) values ($1, $2) returning id',
        values: [room, text],
      })
      .then(({ rows }: { rows: { id: string }[] }) =>
        socket.send(JSON.stringify({ t: 'saved', id, saved: rows[0]?.id })),
      )
  })
  socket.on('close', () => {
    for (const members of rooms.values()) members.delete(socket)
  })
})
server.on('listening', () => process.stdout.write(`http://127.0.0.1:${(server.address() as AddressInfo).port}\n`))
