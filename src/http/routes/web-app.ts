// The Deck page, as `npm run web` built it from src/web into dist/web: the same document at / and under /deck/, which finds out by the
// address what to show, and its parts under /assets/, named by their content and so kept for good. Nothing of it needs a token: the
// page has none either, until its reader gives it one. Where it was not built, a plain page says so.
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { deny } from '../../protocol/errors.ts'
import { makeFiles } from './static-files.ts'

const types: Record<string, string> = {
  js: 'text/javascript; charset=utf-8',
  css: 'text/css; charset=utf-8',
  svg: 'image/svg+xml',
}

const unbuilt = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Mission Deck</title>
<h1>Mission Deck</h1>
<p>The server runs; its page is not built: <code>npm run build</code> does it, and <code>npm start</code> by itself.</p>
<ul>
  <li><a href="/docs">/docs</a>: reference of the HTTP API, to try out
  <li><a href="/openapi.json">/openapi.json</a>, <a href="/asyncapi.json">/asyncapi.json</a>: the same, and the socket, as documents
</ul>
</html>
`

/**
 * What the page may do: run its own scripts and no other, speak to its own server. (Not every browser takes 'self' for sockets.)
 * No string becomes HTML or a script: where browsers know trusted types, none is made.
 */
const policyOf = (host: string): string => {
  const sockets = /^[\w.-]+(:\d+)?$|^\[[\da-fA-F:]+\](:\d+)?$/.test(host) ? ` ws://${host} wss://${host}` : ''
  return (
    `default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'${sockets}; ` +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
  )
}

export const pageRoute = (app: FastifyInstance): void => {
  // The same places from src/http and from dist/http.
  const documents = makeFiles(new URL('../../../dist/web/', import.meta.url))
  const assets = makeFiles(new URL('../../../dist/web/assets/', import.meta.url))

  const page = async (request: FastifyRequest, reply: FastifyReply) => {
    const html = await documents.get('index.html')
    // Asked for each time: it names the parts of this build.
    reply.header('cache-control', 'no-cache').header('content-security-policy', policyOf(request.host))
    if (!html) return reply.type('text/html; charset=utf-8').send(unbuilt)
    return documents.send(request, reply, html, 'text/html; charset=utf-8')
  }
  for (const path of ['/', '/deck', '/deck/', '/deck/*']) app.get(path, { schema: { hide: true } }, page)

  app.get<{ Params: { file: string } }>('/assets/:file', { schema: { hide: true } }, async (request, reply) => {
    const { file: name } = request.params
    const type = types[name.split('.').at(-1) ?? '']
    const file = type === undefined ? undefined : await assets.get(name)
    if (!file || type === undefined) throw deny('not_found')
    reply.header('cache-control', 'public, max-age=31536000, immutable')
    return assets.send(request, reply, file, type)
  })
}
