// Compression and ETags. Responses with status 200 to GET and HEAD are compressed if the client accepts it, and text without an ETag
// gets one. If the ETag matches If-None-Match, the response is 304. Event streams are not compressed, and NDJSON streams compress
// themselves (http/streams/ndjson).
import { createHash } from 'node:crypto'
import { pipeline, type Readable } from 'node:stream'
import { promisify } from 'node:util'
import {
  brotliCompress,
  constants,
  createBrotliCompress,
  createGzip,
  gzip,
  type BrotliCompress,
  type Gzip,
} from 'node:zlib'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { weighed } from './negotiation.ts'

/** Bytes below which compression costs more than it saves. */
const least = 1024
const takesPacking = /^(application\/(x-ndjson|json)|text\/(plain|html|javascript))\b/

// Lowest levels: higher ones take several times as long for some percent (bench/encoding.ts).
const gzipOptions = { level: 1 }
const brotliOptions = { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } }

export type Coding = 'br' | 'gzip'

/** Returns the coding that the request prefers; undefined for none. On a tie brotli: it is smaller, and cheaper at its level. */
export const codingOf = ({ headers }: FastifyRequest): Coding | undefined => {
  const given = new Map(weighed(String(headers['accept-encoding'] ?? '')).map(({ name, weight }) => [name, weight]))
  const others = given.get('*') ?? 0
  const weight = (name: string, other = others): number => given.get(name) ?? other
  // Without `identity` in the header, an uncompressed response is always allowed.
  const plain = weight('identity', 0)
  const best = weight('br') >= weight('gzip') ? 'br' : 'gzip'
  return weight(best) > 0 && weight(best) >= plain ? best : undefined
}

/** Adds Accept-Encoding to Vary. */
export const varies = (reply: FastifyReply): void => {
  const before = String(reply.getHeader('vary') ?? '')
  if (!/accept-encoding/i.test(before)) reply.header('vary', [before, 'Accept-Encoding'].filter(Boolean).join(', '))
}

/** Returns a stream that compresses its input. */
export const packer = (coding: Coding): BrotliCompress | Gzip =>
  coding === 'br' ? createBrotliCompress(brotliOptions) : createGzip(gzipOptions)

/** The flush mode that writes all input out and keeps the compression state. */
export const flushOf = (coding: Coding): number =>
  coding === 'br' ? constants.BROTLI_OPERATION_FLUSH : constants.Z_SYNC_FLUSH

const pack = (coding: Coding, body: string | Buffer): Promise<Buffer> =>
  coding === 'br' ? promisify(brotliCompress)(body, brotliOptions) : promisify(gzip)(body, gzipOptions)

/** Returns a weak ETag of the uncompressed content. */
export const tagOf = (...parts: (string | Buffer)[]): string => {
  const hash = createHash('sha1')
  for (const part of parts) hash.update(part)
  return `W/"${hash.digest('base64url')}"`
}

/** Whether If-None-Match contains the ETag; weak comparison. */
export const known = ({ headers }: FastifyRequest, tag: string): boolean => {
  const bare = (given: string): string => given.trim().replace(/^W\//, '')
  const given = headers['if-none-match']
  return given !== undefined && (given.trim() === '*' || given.split(',').some((one) => bare(one) === bare(tag)))
}

export const installEncoding = (app: FastifyInstance): void => {
  app.addHook('onSend', async (request, reply, payload) => {
    const reading = request.method === 'GET' || request.method === 'HEAD'
    const type = String(reply.getHeader('content-type') ?? '')
    if (!reading || reply.statusCode !== 200 || !takesPacking.test(type) || reply.hasHeader('content-encoding'))
      return payload
    const whole = typeof payload === 'string' || Buffer.isBuffer(payload)
    if (whole && !reply.hasHeader('etag')) reply.header('etag', tagOf(payload))
    const tag = reply.getHeader('etag')
    if (tag !== undefined && !reply.hasHeader('cache-control')) reply.header('cache-control', 'private, no-cache')
    if (typeof tag === 'string' && whole && known(request, tag)) {
      reply.status(304).removeHeader('content-length')
      return null
    }
    const length = whole ? Buffer.byteLength(payload) : Number(reply.getHeader('content-length') ?? Infinity)
    const coding = codingOf(request)
    varies(reply)
    // A response without a body reports the length of the uncompressed one.
    if (coding === undefined || length < least || (!whole && request.method === 'HEAD')) return payload
    reply.header('content-encoding', coding).removeHeader('content-length')
    // Compressed and plain bytes differ under one ETag, so the ETag must be weak.
    if (typeof tag === 'string' && !tag.startsWith('W/')) reply.header('etag', `W/${tag}`)
    if (whole) return pack(coding, payload)
    // If the source fails, the pipeline ends the response too.
    return pipeline(payload as Readable, packer(coding), () => {})
  })
}
