// Encodes the frames that the server sends over a socket as JSON texts: answers, events and all others. Their types are in answers.ts and
// server-frames.ts; they are not checked at run time.
import type { Answer } from './answers.ts'
import type { FrameId } from './client-frames.ts'
import type { Refusal } from './errors.ts'
import type { ServerFrame, ServerFrameType } from './server-frames.ts'
import type { Text } from './websocket-wire.ts'

/** Encodes a server frame that is neither an answer nor an event. */
export const encodeFrame = <T extends Exclude<ServerFrameType, 'error'>>(type: T, members: ServerFrame<T>): string =>
  JSON.stringify({ type, ...members })

const idText = (id: Exclude<FrameId, undefined>): string => (typeof id === 'string' ? JSON.stringify(id) : String(id))

const encodeAnswer = (type: 'ok' | 'error', id: FrameId, members: object): string => {
  const rest = JSON.stringify(members)
  return `{"type":"${type}"${id === undefined ? '' : `,"id":${idText(id)}`}${rest === '{}' ? '}' : `,${rest.slice(1)}`}`
}

export const encodeOk = (id: Exclude<FrameId, undefined>, answer: Answer): string => encodeAnswer('ok', id, answer)

export const encodeError = (refusal: Refusal, { id, topic }: { id?: FrameId; topic?: string } = {}): string => {
  const { code, detail, extra } = refusal
  const members: ServerFrame<'error'> = { ...(topic === undefined ? {} : { topic }), code, detail, ...extra }
  return encodeAnswer('error', id, members)
}

/** Encodes the answer to a `send`; `message` is a JSON text. */
export const encodeSaved = (id: Exclude<FrameId, undefined>, seq: number, message: string): Text => [
  `{"type":"ok","id":${idText(id)},"seq":${seq},"message":`,
  message,
  '}',
]

/** Encodes an event; `data` is the row's JSON text as stored. */
export const encodeEvent = (topic: string, seq: number, event: string, data: string): Text => [
  `{"type":"event","topic":"${topic}","seq":${seq},"event":"${event}","data":`,
  data,
  '}',
]
