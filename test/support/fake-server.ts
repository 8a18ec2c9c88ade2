// A fake server that a test scripts, for behaviour that the real server shows too rarely or too late.
import { once } from 'node:events'
import type { Test } from 'tap'
import { WebSocketServer, type WebSocket } from 'ws'
import { until, type Json } from './server.ts'

export type Visit = {
  token: string | undefined
  frames: Json[]
  say(frame: Json): void
  close(code?: number): void
  /** Resolves to the n-th frame of a type, received or still to arrive. */
  frame(type: string, n?: number): Promise<Json>
}

/** `greet` returns false to send no welcome. `answer` returns the members of an `ok` or error, or undefined to send no answer. */
export const startFake = async (
  t: Test,
  behave: {
    greet?: (visit: Visit, n: number) => Json | false
    answer?: (frame: Json, visit: Visit) => Json | undefined
  } = {},
) => {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', handleProtocols: () => 'deck.v1' })
  await once(server, 'listening')
  const sockets = new Set<WebSocket>()
  t.teardown(async () => {
    for (const socket of sockets) socket.terminate()
    server.close()
    await once(server, 'close')
  })
  const visits: Visit[] = []
  const welcome = { sub: 'rafael', role: 'citizen', instance: 'fake', session: 's', limits: { frame_bytes: 524_288 } }
  server.on('connection', (socket, request) => {
    sockets.add(socket)
    const offered = String(request.headers['sec-websocket-protocol'])
    const frames: Json[] = []
    const visit: Visit = {
      token: /bearer\.([^,]+)/.exec(offered)?.[1],
      frames,
      say: (frame) => socket.send(JSON.stringify(frame)),
      close: (code) => socket.close(code),
      async frame(type, n = 0) {
        const all = (): Json[] => frames.filter((frame) => frame['type'] === type)
        await until(() => all().length > n, `frame ${n} ${type}`)
        return all()[n] as Json
      },
    }
    visits.push(visit)
    socket.on('message', (data: Buffer) => {
      const frame = JSON.parse(data.toString('utf8')) as Json
      frames.push(frame)
      const said = behave.answer?.(frame, visit)
      if (said) visit.say({ type: 'code' in said ? 'error' : 'ok', id: frame['id'], ...said })
    })
    const greeting = behave.greet?.(visit, visits.length) ?? {}
    const expires_at = new Date(Date.now() + 3_600_000).toISOString()
    if (greeting) visit.say({ type: 'welcome', expires_at, ...welcome, ...greeting })
  })
  return {
    url: `http://127.0.0.1:${(server.address() as { port: number }).port}`,
    visits,
    /** Resolves to the n-th connection, open or still to arrive. */
    async visit(n: number): Promise<Visit> {
      await until(() => visits.length > n, `connection ${n}`, 20_000)
      return visits[n] as Visit
    },
  }
}
