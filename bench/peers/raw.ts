// No chat at all: ws broadcasts what is sent, from memory, in frames as long as ours. What is left is the price of sockets.
import type { AddressInfo } from 'node:net'
import { WebSocketServer, type WebSocket } from 'ws'

const uuid = '00000000-0000-4000-8000-000000000000'
let seq = 0
/** The fields of our `message.created`, so that a delivery has as many bytes. */
const event = (citizen: string, message: string) => {
  const data = { id: uuid, mission_id: uuid, citizen, sender: 'user', author: 'alice', message, code_blocks: null }
  const place = { created_at: new Date().toISOString().replace('Z', '000Z'), seq: ++seq, key: null }
  return {
    t: 'message',
    topic: `missions/${uuid}/chat/${citizen}`,
    seq,
    event: 'message.created',
    data: { ...data, ...place },
  }
}

const rooms = new Map<string, Set<WebSocket>>()
const server = new WebSocketServer({ host: '127.0.0.1', port: 0 })
server.on('connection', (socket) => {
  socket.on('message', (data: Buffer) => {
    const { t, id, room, text } = JSON.parse(data.toString()) as { t: string; id: number; room: string; text: string }
    if (t === 'join') {
      rooms.set(room, (rooms.get(room) ?? new Set()).add(socket))
      socket.send('{"t":"joined"}')
      return
    }
    const frame = Buffer.from(JSON.stringify(event(room, text)))
    for (const member of rooms.get(room) ?? []) member.send(frame, { binary: false })
    socket.send(JSON.stringify({ t: 'saved', id }))
  })
  socket.on('close', () => {
    for (const members of rooms.values()) members.delete(socket)
  })
})
server.on('listening', () => process.stdout.write(`http://127.0.0.1:${(server.address() as AddressInfo).port}\n`))
