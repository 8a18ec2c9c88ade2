// A TCP proxy between clients and a server, for any protocol. It cuts, discards or refuses connections; its target may change.
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import type { Test } from 'tap'

export type Wire = {
  /** the server's URL through the proxy */
  url: string
  /** server URL for new connections */
  target: string
  /** new connections are closed at once */
  refusing: boolean
  /** Cuts all connections. Returns how many. */
  cut(): number
  /** Discards what the server sends on the existing connections, but keeps them open. */
  swallow(): void
  connections(): number
  /** Bytes that the server has sent so far. */
  carried(): number
  close(): Promise<void>
}

export const startWire = async (t: Test, target: string, host = '127.0.0.1'): Promise<Wire> => {
  let carried = 0
  const pairs = new Set<{ ends: [Socket, Socket]; hole: boolean }>()
  const server = createServer((client) => {
    client.on('error', () => {})
    if (wire.refusing) return void client.destroy()
    const { hostname, port } = new URL(wire.target)
    const far = connect(Number(port), hostname)
    const pair = { ends: [client, far] as [Socket, Socket], hole: false }
    pairs.add(pair)
    const end = (): void => {
      pairs.delete(pair)
      for (const socket of pair.ends) socket.destroy()
    }
    far.on('error', () => {})
    for (const [from, to] of [pair.ends, pair.ends.toReversed() as [Socket, Socket]]) {
      from.setNoDelay(true)
      from.on('data', (chunk: Buffer) => {
        if (from === far) carried += chunk.length
        if (!pair.hole || from !== far) to.write(chunk)
      })
      from.on('close', () => pair.hole || end())
    }
  })
  server.listen(0, host)
  await once(server, 'listening')
  const wire: Wire = {
    url: `http://${host}:${(server.address() as { port: number }).port}`,
    target,
    refusing: false,
    cut() {
      const cut = pairs.size
      for (const { ends } of pairs) for (const socket of ends) socket.destroy()
      pairs.clear()
      return cut
    },
    swallow() {
      for (const pair of pairs) pair.hole = true
    },
    connections: () => pairs.size,
    carried: () => carried,
    async close() {
      wire.cut()
      if (!server.listening) return
      server.close()
      await once(server, 'close')
    },
  }
  t.teardown(wire.close)
  return wire
}
