// Built files of a folder, read once and cached, plain and compressed. A missing file is read again at the next request, so a build
// is served without a restart.
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { brotliCompress, gzip } from 'node:zlib'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { codingOf, known, varies, type Coding } from '../plugins/compression.ts'

type File = { etag: string; body: Buffer; packed: Record<Coding, Buffer> }

const read = async (url: URL): Promise<File> => {
  const body = await readFile(url)
  const etag = createHash('sha256').update(body).digest('base64url').slice(0, 22)
  // The highest levels, because each file is compressed once.
  const [small, smaller] = await Promise.all([promisify(gzip)(body, { level: 9 }), promisify(brotliCompress)(body)])
  return { etag, body, packed: { gzip: small, br: smaller } }
}

/** Whether a name is a plain file name, which can't leave the folder. */
export const isFileName = (name: string): boolean => /^[\w-][\w.-]*$/.test(name)

/** `get` returns a file by its name, or undefined. `send` answers with a file, or with 304 if the client has it. */
export const makeFiles = (folder: URL) => {
  const files = new Map<string, Promise<File>>()
  return {
    async get(name: string): Promise<File | undefined> {
      if (!isFileName(name)) return undefined
      const reading = files.get(name) ?? read(new URL(name, folder))
      files.set(name, reading)
      return reading.catch(() => void files.delete(name))
    },
    send(request: FastifyRequest, reply: FastifyReply, { etag: hash, body, packed }: File, type: string) {
      const coding = codingOf(request)
      const etag = `"${hash}${coding === undefined ? '' : `-${coding}`}"`
      reply.header('etag', etag)
      varies(reply)
      if (known(request, etag)) return reply.status(304).send()
      if (coding !== undefined) reply.header('content-encoding', coding)
      return reply.type(type).send(coding === undefined ? body : packed[coding])
    },
  }
}
