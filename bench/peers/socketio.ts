// Socket.IO 4 with its Postgres adapter, as its documentation sets it up; each message is inserted before it is emitted.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createAdapter } from '@socket.io/postgres-adapter'
import pg from 'pg'
import { Server } from 'socket.io'

const pool = new pg.Pool({ connectionString: process.env['DATABASE_URL'], max: 10 })
await pool.query(`
  create table if not exists socket_io_attachments (id bigserial unique, created_at timestamptz default now(), payload bytea);
  create table if not exists messages (id bigserial primary key, room text not null, text text not null, created_at timestamptz not null default now());
  create index if not exists messages_room on messages (room, id);
`)
const http = createServer()
const io = new Server(http, { transports: ['websocket'] })
io.adapter(createAdapter(pool))

io.on('connection', (socket) => {
  socket.on('join', async (room: string, done: () => void) => {
    await socket.join(room)
    done()
  })
  socket.on('send', async (room: string, text: string, done: (id: string) => void) => {
    const { rows } = await pool.query<{ id: string; created_at: Date }>({
      name: 'save',
      text: 'insert into messages (room, text) values ($1, $2) returning id, created_at',
      values: [room, text],
    })
    const [saved] = rows
    io.to(room).emit('message', { ...saved, room, text })
    done(saved?.id ?? '')
  })
})
http.listen(0, '127.0.0.1', () => process.stdout.write(`http://127.0.0.1:${(http.address() as AddressInfo).port}\n`))
