// The client for browsers: GET /client/index.js, one file that `npm run build` and `npm start` write to dist/client/page. Pages of this
// server and of the allowed origins can import it without a build step. If it is not built, the response is `not_found`.
import type { FastifyInstance } from 'fastify'
import { deny } from '../../protocol/errors.ts'
import { makeFiles } from './static-files.ts'

const types: Record<string, string> = { 'index.js': 'text/javascript', 'index.js.map': 'application/json' }

export const clientRoute = (app: FastifyInstance): void => {
  // The path is the same from src/http and from dist/http.
  const files = makeFiles(new URL('../../../dist/client/page/', import.meta.url))
  app.get<{ Params: { file: string } }>('/client/:file', { schema: { hide: true } }, async (request, reply) => {
    const { file: name } = request.params
    const type = Object.hasOwn(types, name) && types[name]
    if (!type) throw deny('not_found')
    const file = await files.get(name)
    if (!file) throw deny('not_found', 'the client is not built: npm run build')
    // Revalidated each time, so that a page never runs the client of another server version.
    reply.header('cache-control', 'no-cache')
    return files.send(request, reply, file, `${type}; charset=utf-8`)
  })
}
