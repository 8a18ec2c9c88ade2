// The protocols of the targets: the frames that join a topic and publish, and the meaning of received frames.
// A text contains "~publisher.number.microseconds~", so that a receiver knows its publisher, number and time.

export const mark = 0x7e

/** The kind of a frame. An `echo` delivers the socket's own message and also acknowledges it. */
export type Kind = 'none' | 'ack' | 'delivery' | 'echo' | 'error' | 'ping'

export type Adapter = {
  /** Returns the URL and the headers with which a socket is opened. */
  door(url: string, name: number): { url: string; headers?: Record<string, string> }
  /** Returns the answer to a frame until the socket has joined its topic, if any; `frame` is '' right after the opening. */
  join(frame: string, name: number, topic: string | undefined): { send?: string[]; joined?: boolean }
  publish(topic: string, n: number, text: string): string
  kind(chunk: Buffer, start: number, end: number): Kind
  pong?: string
}

const code = (letter: string): number => letter.charCodeAt(0)

/** Mission Deck: {"type":"event"…} and {"type":"ok"…}. */
export const deck = (token: string): Adapter => ({
  door: (url) => ({ url: `${url}/api/ws`, headers: { authorization: `Bearer ${token}` } }),
  join(frame, _name, topic) {
    if (topic === undefined) return { joined: frame.includes('"type":"welcome"') }
    if (frame.includes('"type":"welcome"')) return { send: [JSON.stringify({ type: 'subscribe', id: 0, topic })] }
    return { joined: frame.startsWith('{"type":"ok"') }
  },
  publish: (topic, id, message) => `{"type":"send","id":${id},"topic":"${topic}","message":"${message}"}`,
  kind(chunk, start) {
    switch (chunk[start + 9]) {
      case code('o'):
        return 'ack'
      case code('e'):
        return chunk[start + 10] === code('v') ? 'delivery' : 'error'
      default:
        return 'none'
    }
  },
})

/** Socket.IO 4 over WebSocket only: engine packets 0 open, 2 ping, 4 message; in a message 0 connect, 2 event, 3 ack. */
export const socketio = (): Adapter => ({
  door: (url) => ({ url: `${url}/socket.io/?EIO=4&transport=websocket` }),
  join(frame, _name, topic) {
    if (frame.startsWith('0')) return { send: ['40'] }
    if (frame.startsWith('40') && topic === undefined) return { joined: true }
    if (frame.startsWith('40')) return { send: [`420${JSON.stringify(['join', topic])}`] }
    return { joined: frame.startsWith('430') }
  },
  publish: (topic, n, text) => `42${n}["send","${topic}","${text}"]`,
  kind(chunk, start) {
    if (chunk[start] === code('2')) return 'ping'
    return chunk[start + 1] === code('3') ? 'ack' : chunk[start + 1] === code('2') ? 'delivery' : 'none'
  },
  pong: '3',
})

/** The tutorial's design: {"t":"message"…} and {"t":"saved"…}. */
export const tutorial = (): Adapter => ({
  door: (url) => ({ url }),
  join(frame, _name, topic) {
    if (topic === undefined) return { joined: true }
    if (frame === '') return { send: [JSON.stringify({ t: 'join', room: topic })] }
    return { joined: frame.startsWith('{"t":"joined"') }
  },
  publish: (topic, id, text) => `{"t":"send","id":${id},"room":"${topic}","text":"${text}"}`,
  kind: (chunk, start) =>
    chunk[start + 6] === code('s') ? 'ack' : chunk[start + 6] === code('m') ? 'delivery' : 'none',
})
