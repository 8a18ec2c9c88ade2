// Large responses that the client does not read, over connections that stay open.
import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { attack, tally } from './attack.ts'

attack(
  'responses that are not read',
  ({ database, id }) =>
    database.query(
      `insert into chat_messages (mission_id, citizen, sender, message, code_blocks)
       select $1, 'rafael', 'user', 'x', jsonb_build_array(jsonb_build_object('language', null, 'code', repeat('x', 240000)))
       from generate_series(1, 40)`,
      [id],
    ),
  async ({ server, id, alice, over }) => {
    const { count, summary } = tally()
    const sockets: Socket[] = []
    while (!over()) {
      const socket = connect(Number(new URL(server.url).port), '127.0.0.1')
      socket.on('error', () => {})
      socket.once('readable', () => count('HTTP'))
      socket.write(
        `GET /api/missions/${id}/chat/rafael?limit=500 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${alice}\r\n\r\n`,
      )
      sockets.push(socket)
      await delay(20)
    }
    for (const socket of sockets) socket.destroy()
    return `${sockets.length} connections, ${summary()}`
  },
)
