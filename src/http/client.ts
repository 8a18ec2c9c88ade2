// The client for pages: GET /client/index.js, one file that `npm run build` and `npm start` put into dist/client/page. A page of this
// server imports it with no build of its own; pages of the allowed origins may, too. Where it was not built, it is not found.
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import type { FastifyInstance } from 'fastify'
import { deny } from '../protocol/errors.ts'

// The same place from src/http and from dist/http.
const folder = new URL('../../dist/client/page/', import.meta.url)
const types: Record<string, string> = { 'index.js': 'text/javascript', 'index.js.map': 'application/json' }

type File = { type: string; etag: string; body: Buffer; packed: Buffer }

const read = async (name: string, type: string): Promise<File> => {
  const body = await readFile(new URL(name, folder))
  const etag = createHash('sha256').update(body).digest('base64url').slice(0, 22)
  return { type, etag, body, packed: await promisify(gzip)(body, { level: 9 }) }
}

export const clientRoute = (app: FastifyInstance): void => {
  const files = new Map<string, Promise<File>>()
  app.get<{ Params: { file: string } }>('/client/:file', { schema: { hide: true } }, async (request, reply) => {
    const { file: name } = request.params
    const type = Object.hasOwn(types, name) && types[name]
    if (!type) throw deny('not_found')
    // Read once; one that was not there is looked for again.
    const reading = files.get(name) ?? read(name, type)
    files.set(name, reading)
    const file = await reading.catch(() => {
      files.delete(name)
      throw deny('not_found', 'the client is not built: npm run build')
    })
    const packed = /\bgzip\b/.test(request.headers['accept-encoding'] ?? '')
    // Asked for each time, and sent when it is another one: a page never runs with a client of another server.
    const etag = `"${file.etag}${packed ? '-gzip' : ''}"`
    reply.header('cache-control', 'no-cache').header('etag', etag).header('vary', 'accept-encoding, origin')
    if (request.headers['if-none-match'] === etag) return reply.status(304).send()
    if (packed) reply.header('content-encoding', 'gzip')
    return reply.type(`${file.type}; charset=utf-8`).send(packed ? file.packed : file.body)
  })
}
