// A WebSocket client with minimal cost, so that the server is measured. Frames are parsed within their chunk. The masking key is zero,
// which leaves the payload unchanged. It supports only the needs of a bench: no fragments, no extensions.
import { once } from 'node:events'
import { request } from 'node:http'
import type { Socket } from 'node:net'

export type Wire = {
  /** Sends text frames, in one write. */
  send(frames: readonly string[]): void
  close(): void
}

/** Called for each text frame of a chunk, and once after the last of them. */
export type OnFrame = (chunk: Buffer, start: number, end: number) => void

const encode = (text: string, opcode = 0x81): Buffer => {
  const size = Buffer.byteLength(text)
  const head = size < 126 ? 6 : size < 65_536 ? 8 : 14
  const frame = Buffer.alloc(head + size)
  frame[0] = opcode
  if (size < 126) frame[1] = 0x80 | size
  else if (size < 65_536) {
    frame[1] = 0x80 | 126
    frame.writeUInt16BE(size, 2)
  } else {
    frame[1] = 0x80 | 127
    frame.writeUInt32BE(size, 6)
  }
  frame.write(text, head)
  return frame
}

/** Opens a socket. `onChunk` is called after all frames of a chunk. Rejects if the server refuses the upgrade. */
export const openWire = async (
  url: string,
  headers: Record<string, string>,
  onFrame: OnFrame,
  onChunk: () => void,
  onClose: (why: string) => void,
): Promise<Wire> => {
  const asked = request(url.replace(/^ws/, 'http'), {
    headers: {
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': 'bWlzc2lvbi1kZWNrLWJlbg==',
      ...headers,
    },
  })
  asked.end()
  const refused = once(asked, 'response').then(([response]: { statusCode?: number }[]) => {
    throw new Error(`${url} answered ${response?.statusCode}`)
  })
  const [, socket, head] = (await Promise.race([once(asked, 'upgrade'), refused])) as [unknown, Socket, Buffer]
  socket.setNoDelay(true)
  let rest: Buffer | undefined
  let why = 'cut'

  const take = (chunk: Buffer): void => {
    const data = rest ? Buffer.concat([rest, chunk]) : chunk
    rest = undefined
    let at = 0
    while (at < data.length) {
      if (data.length - at < 2) break
      const short = data.readUInt8(at + 1) & 0x7f
      const start = at + (short < 126 ? 2 : short === 126 ? 4 : 10)
      if (data.length < start) break
      const size = short < 126 ? short : short === 126 ? data.readUInt16BE(at + 2) : data.readUInt32BE(at + 6)
      const end = start + size
      if (data.length < end) break
      const opcode = data.readUInt8(at) & 0x0f
      if (opcode === 1) onFrame(data, start, end)
      else if (opcode === 8)
        why = `closed: ${size > 1 ? data.readUInt16BE(start) : ''} ${data.toString('utf8', start + 2, end)}`
      else if (opcode === 9) socket.write(encode(data.toString('latin1', start, end), 0x8a))
      at = end
    }
    if (at < data.length) rest = at === 0 ? data : data.subarray(at)
    onChunk()
  }
  socket.on('data', take)
  socket.on('error', (error) => (why = error.message))
  socket.on('close', () => onClose(why))
  if (head.length > 0) setImmediate(take, head)
  return {
    send(frames) {
      socket.write(frames.length === 1 ? encode(frames[0] ?? '') : Buffer.concat(frames.map((frame) => encode(frame))))
    },
    close: () => socket.destroy(),
  }
}
