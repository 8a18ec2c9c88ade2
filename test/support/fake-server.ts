// A server of which a test says what it does: for what the real one does too seldom or too late to be waited for.
import { once } from 'node:events'
import type { Test } from 'tap'
import { WebSocketServer, type WebSocket } from 'ws'
import { until, type Json } from './server.ts'

export type Visit = {
  token: string | undefined
  frames: Json[]
  say(frame: Json): void
  close(code?: number): void
  /** The n-th frame of a type, received or to come. */
  frame(type: string, n?: number): Promise<Json>
}

/** `greet: false` says no welcome; `answer` gives an `ok`'s or error's members, or nothing to leave a frame without an answer. */
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
    /** The n-th connection, come or to come. */
    async visit(n: number): Promise<Visit> {
      await until(() => visits.length > n, `connection ${n}`, 20_000)
      return visits[n] as Visit
    },
  }
}
