// The end of a connection that the server closes while its peer may still be sending.
// TCP resets a connection that is closed with unread bytes, and the peer may lose the last frame or response to the reset. So bytes
// that still arrive are read and discarded until the peer closes too, for a bounded time and number of bytes.
import type { Socket } from 'node:net'

/** Bytes that are read and discarded. Beyond, reading stops and the peer gets the end of the stream. */
const mostBytes = 16 * 1024 * 1024
const patience = 5000

/** `reading` is paused beyond the limit: the connection or its WebSocket. The connection is destroyed after `ms`. */
export const linger = (wire: Socket, reading: { pause(): unknown }, ms = patience): void => {
  let left = mostBytes
  const discard = ({ length }: Buffer): void => {
    left -= length
    if (left > 0) return
    wire.off('data', discard)
    wire.end()
    reading.pause()
  }
  wire.on('data', discard)
  const cut = setTimeout(() => wire.destroy(), ms)
  cut.unref()
  wire.once('close', () => clearTimeout(cut))
}

/** A `destroySoon` for connections of an HTTP server: sends the written bytes and the end of the stream, then lingers. */
export const lingerSoon = function (this: Socket): void {
  if (this.destroyed || this.writableEnded) return
  // Pipelined requests after the last response are not handled.
  this.removeAllListeners('data')
  this.end()
  linger(this, this)
  this.resume()
}
