// Built files of a folder, read once and kept: as they are and packed. One that is not there is looked for again, so that a build
// beside a running server is found.
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import type { FastifyReply, FastifyRequest } from 'fastify'

type File = { etag: string; body: Buffer; packed: Buffer }

const read = async (url: URL): Promise<File> => {
  const body = await readFile(url)
  const etag = createHash('sha256').update(body).digest('base64url').slice(0, 22)
  return { etag, body, packed: await promisify(gzip)(body, { level: 9 }) }
}

/** A name as builds give it: no way out of the folder. */
export const isFileName = (name: string): boolean => /^[\w-][\w.-]*$/.test(name)

/** Makes `get`: a file by its name, or undefined; and `send`, which answers with one, or with 304 to who has it. */
export const makeFiles = (folder: URL) => {
  const files = new Map<string, Promise<File>>()
  return {
    async get(name: string): Promise<File | undefined> {
      if (!isFileName(name)) return undefined
      const reading = files.get(name) ?? read(new URL(name, folder))
      files.set(name, reading)
      return reading.catch(() => void files.delete(name))
    },
    send(request: FastifyRequest, reply: FastifyReply, { etag: hash, body, packed: small }: File, type: string) {
      const packed = /\bgzip\b/.test(request.headers['accept-encoding'] ?? '')
      const etag = `"${hash}${packed ? '-gzip' : ''}"`
      reply.header('etag', etag).header('vary', 'accept-encoding, origin')
      if (request.headers['if-none-match'] === etag) return reply.status(304).send()
      if (packed) reply.header('content-encoding', 'gzip')
      return reply.type(type).send(packed ? small : body)
    },
  }
}
