// The page at /: what this is and where things are.
import { createHash } from 'node:crypto'
import type { FastifyInstance } from 'fastify'

const html = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Mission Deck</title>
<style>
  :root { color-scheme: light dark; font: 1rem/1.6 system-ui, sans-serif }
  body { max-width: 44rem; margin: 0 auto; padding: 3rem 1.25rem }
  h1 { margin: 0; font-size: 2rem; letter-spacing: -.02em }
  h2 { margin: 2.5rem 0 .5rem; font-size: 1.1rem }
  code, pre { font: .9rem/1.5 ui-monospace, monospace }
  pre { overflow-x: auto; padding: .9rem 1rem; border-radius: .5rem; background: color-mix(in srgb, currentColor 8%, transparent) }
  dl { display: grid; grid-template-columns: max-content 1fr; gap: .35rem 1.5rem; margin: 0 }
  dd { margin: 0 }
  a { color: inherit }
</style>
<h1>Mission Deck</h1>
<p>A realtime chat backend that runs on nothing but Postgres: every message is kept there before it is answered, and
   everybody who follows a chat gets every message once, in order, on every instance.</p>
<h2>Where things are</h2>
<dl>
  <dt><a href="/docs">/docs</a></dt><dd>reference of the HTTP API, to try out</dd>
  <dt><a href="/openapi.json">/openapi.json</a></dt><dd>the same as an OpenAPI document</dd>
  <dt><a href="/asyncapi.json">/asyncapi.json</a></dt><dd>the socket as an AsyncAPI document</dd>
  <dt><code>/api/missions</code></dt><dd>missions, their chats, checklists and test runs</dd>
  <dt><code>/api/ws</code></dt><dd>the socket (subprotocol <code>deck.v1</code>): the same things, live</dd>
  <dt><a href="/healthz">/healthz</a>, <a href="/readyz">/readyz</a></dt><dd>is it up, is it ready</dd>
</dl>
<h2>Try it</h2>
<p>The server printed a token when it started. With it in <code>$TOKEN</code>:</p>
<pre>curl -H "Authorization: Bearer $TOKEN" http://localhost:3000/api/missions</pre>
<p>Follow a chat in one terminal and write to it in another, by HTTP, by the socket or by SQL: the README has a
   conversation to paste.</p>
</html>
`

const style = /<style>([^]*)<\/style>/.exec(html)?.[1] ?? ''
const policy =
  `default-src 'none'; style-src 'sha256-${createHash('sha256').update(style).digest('base64')}'; ` +
  `base-uri 'none'; form-action 'none'; frame-ancestors 'none'`

export const pageRoute = (app: FastifyInstance): void => {
  app.get('/', { schema: { hide: true } }, (request, reply) =>
    reply
      .type('text/html; charset=utf-8')
      .header('content-security-policy', policy)
      .send(html.replace('http://localhost:3000', escape(`${request.protocol}://${request.host}`))),
  )
}

const escape = (text: string): string => text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
