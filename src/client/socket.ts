// The WebSocket of one connection, created from the caller's or the runtime's class.

/** A WebSocket class: the browser's, Node's or that of the package ws. */
export type SocketMaker = new (...args: never[]) => { addEventListener(...args: never[]): unknown }

/** The part of a WebSocket that the client uses. */
export type Socket = {
  send(text: string): void
  close(): void
  /** only in ws */
  terminate?(): void
  addEventListener(
    type: 'message' | 'close' | 'error',
    listener: (event: { data?: unknown; code?: number }) => void,
  ): void
}
type SocketClass = new (url: string, protocols: string[]) => Socket

export const socketClass = async (given: SocketMaker | undefined): Promise<SocketClass> =>
  (given ??
    (globalThis as { WebSocket?: SocketMaker }).WebSocket ??
    // Node 20 has no WebSocket.
    (await import('ws')).WebSocket) as SocketClass

/** `lost` may be called more than once. */
export const openSocket = (
  Class: SocketClass,
  url: string,
  token: string,
  on: { text: (socket: Socket, text: string) => void; lost: (socket: Socket, code: number) => void },
): Socket => {
  const socket = new Class(`${url.replace(/^http/, 'ws')}/api/ws`, ['deck.v1', `bearer.${token}`])
  socket.addEventListener('message', ({ data }) => on.text(socket, String(data)))
  socket.addEventListener('close', ({ code = 0 }) => on.lost(socket, code))
  // Not every runtime emits `close` for a socket that never opened.
  socket.addEventListener('error', () => on.lost(socket, 1006))
  return socket
}

/** A dead socket would wait long for the answer to its close: `atOnce` terminates it if its class supports that. */
export const closeSocket = (socket: Socket | undefined, atOnce: boolean): void => {
  if (atOnce && socket?.terminate) socket.terminate()
  else socket?.close()
}
