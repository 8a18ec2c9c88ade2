// The Deck page, built by `npm run web` from src/web to dist/web. / and /deck/* return one document, which selects its content by the
// URL. Its files under /assets/ have a content hash in their name and are cached permanently. None of these routes needs a token: the
// user signs in on the page. If the page is not built, or is being built, a plain page says so.
import { createHash } from 'node:crypto'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { deny } from '../../protocol/errors.ts'
import { makeFiles } from './static-files.ts'

const types: Record<string, string> = {
  js: 'text/javascript; charset=utf-8',
  css: 'text/css; charset=utf-8',
  svg: 'image/svg+xml',
}

/** What becomes of a page that was not built: it is only looked for (`found`), `npm start` builds it, or that failed. */
export type PageState = 'found' | 'building' | 'failed'

const words: Record<PageState, string> = {
  found:
    'The server is running, but its page is not built: run <code>npm run build</code>, or start it with <code>npm start</code>.',
  building: 'The server is running, and its page is being built. It opens here once it is built.',
  failed: 'The server is running, but its page could not be built. The output of <code>npm start</code> says why.',
}
// (A refresh by meta does not reload a page whose address has a fragment, as the link that signs in has.)
const reload = 'setTimeout(() => location.reload(), 1000)'
const reloadPolicy = `default-src 'none'; script-src 'sha256-${createHash('sha256').update(reload).digest('base64')}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`

/** The page in place of the one that was not built. While that is being built, this one reloads. */
const plain = (state: PageState): string => `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Mission Deck</title>
<h1>Mission Deck</h1>
<p>${words[state]}</p>
<ul>
  <li><a href="/docs">/docs</a>: interactive reference of the HTTP API
  <li><a href="/openapi.json">/openapi.json</a>, <a href="/asyncapi.json">/asyncapi.json</a>: the HTTP API and the socket as documents
</ul>
${state === 'building' ? `<script>${reload}</script>\n` : ''}</html>
`

/**
 * The page's content security policy: only its own scripts, and requests only to its own server. Sockets are listed explicitly,
 * because not every browser applies 'self' to them. Trusted types forbid turning strings into HTML or scripts.
 */
const policyOf = (host: string): string => {
  const sockets = /^[\w.-]+(:\d+)?$|^\[[\da-fA-F:]+\](:\d+)?$/.test(host) ? ` ws://${host} wss://${host}` : ''
  return (
    `default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'${sockets}; ` +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
  )
}

export const pageRoute = (app: FastifyInstance, state: () => PageState): void => {
  // The paths are the same from src/http and from dist/http.
  const documents = makeFiles(new URL('../../../dist/web/', import.meta.url))
  const assets = makeFiles(new URL('../../../dist/web/assets/', import.meta.url))

  const page = async (request: FastifyRequest, reply: FastifyReply) => {
    const html = await documents.get('index.html')
    // Revalidated each time, because it names the files of this build.
    reply.header('cache-control', 'no-cache').header('content-security-policy', policyOf(request.host))
    if (!html) {
      if (state() === 'building') reply.header('content-security-policy', reloadPolicy)
      return reply.type('text/html; charset=utf-8').send(plain(state()))
    }
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
