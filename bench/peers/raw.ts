// No chat at all: what is sent is broadcast by ws, from memory. What is left is the price of sockets.
import type { AddressInfo } from 'node:net'
import { WebSocketServer, type WebSocket } from 'ws'

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
    const frame = Buffer.from(JSON.stringify({ t: 'message', data: { room, text } }))
    for (const member of rooms.get(room) ?? []) member.send(frame, { binary: false })
    socket.send(JSON.stringify({ t: 'saved', id }))
  })
  socket.on('close', () => {
    for (const members of rooms.values()) members.delete(socket)
  })
})
server.on('listening', () => process.stdout.write(`http://127.0.0.1:${(server.address() as AddressInfo).port}\n`))
