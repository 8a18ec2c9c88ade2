// What an answer costs on its way: compressed where the client takes it, and not sent at all where it has it already (If-None-Match).
// It looks at answers with 200 to GET and HEAD; a tag is given to text that has none. Not its business: event streams, sockets, and
// the stream of lines, which packs itself (http/streams/ndjson).
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

/** Bytes below which packing saves less than it costs. */
const least = 1024
const takesPacking = /^(application\/(x-ndjson|json)|text\/(plain|html|javascript))\b/

// Lowest levels, by bench/encoding.ts: higher ones cost a multiple for some percent.
const gzipOptions = { level: 1 }
const brotliOptions = { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } }

export type Coding = 'br' | 'gzip'

/** The coding that a request takes best; of equals brotli, which is smaller, and costs less at its level. */
export const codingOf = ({ headers }: FastifyRequest): Coding | undefined => {
  const given = new Map(weighed(String(headers['accept-encoding'] ?? '')).map(({ name, weight }) => [name, weight]))
  const others = given.get('*') ?? 0
  const weight = (name: string, other = others): number => given.get(name) ?? other
  // What is not named may always come as it is.
  const plain = weight('identity', 0)
  const best = weight('br') >= weight('gzip') ? 'br' : 'gzip'
  return weight(best) > 0 && weight(best) >= plain ? best : undefined
}

/** Notes that an answer depends on what the client takes. */
export const varies = (reply: FastifyReply): void => {
  const before = String(reply.getHeader('vary') ?? '')
  if (!/accept-encoding/i.test(before)) reply.header('vary', [before, 'Accept-Encoding'].filter(Boolean).join(', '))
}

/** A stream that packs what is written to it. */
export const packer = (coding: Coding): BrotliCompress | Gzip =>
  coding === 'br' ? createBrotliCompress(brotliOptions) : createGzip(gzipOptions)

/** What makes a packer hand out all that it was given, and keep what it has learned. */
export const flushOf = (coding: Coding): number =>
  coding === 'br' ? constants.BROTLI_OPERATION_FLUSH : constants.Z_SYNC_FLUSH

const pack = (coding: Coding, body: string | Buffer): Promise<Buffer> =>
  coding === 'br' ? promisify(brotliCompress)(body, brotliOptions) : promisify(gzip)(body, gzipOptions)

/** A tag of what an answer says, whatever its coding. */
export const tagOf = (...parts: (string | Buffer)[]): string => {
  const hash = createHash('sha1')
  for (const part of parts) hash.update(part)
  return `W/"${hash.digest('base64url')}"`
}

/** Whether the client holds what the tag stands for; compared without regard to the coding. */
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
    // Other bytes under one name: only a weak tag may say that they are the same.
    if (typeof tag === 'string' && !tag.startsWith('W/')) reply.header('etag', `W/${tag}`)
    if (whole) return pack(coding, payload)
    // A failure of the source ends what is sent, too.
    return pipeline(payload as Readable, packer(coding), () => {})
  })
}
