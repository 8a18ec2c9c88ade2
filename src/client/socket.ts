// The WebSocket of one connection, made from the class that the caller or the runtime offers.

/** A class of WebSockets: the browser's, Node's or that of the package ws. */
export type SocketMaker = new (...args: never[]) => { addEventListener(...args: never[]): unknown }

/** The part of a WebSocket that the client uses. */
export type Socket = {
  send(text: string): void
  close(): void
  /** of ws only */
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
  // Not every runtime reports the close of a socket that was never open.
  socket.addEventListener('error', () => on.lost(socket, 1006))
  return socket
}

/** A socket that leads nowhere would wait long for the answer to its close: it is terminated where that is possible. */
export const closeSocket = (socket: Socket | undefined, atOnce: boolean): void => {
  if (atOnce && socket?.terminate) socket.terminate()
  else socket?.close()
}
