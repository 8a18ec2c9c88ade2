// MCP (Model Context Protocol): POST /mcp, for assistants. The same bearer tokens and rights as the API.
import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Actor } from '../../access/actor.ts'
import { isOwnPage, ownOrigin } from '../../access/own-origin.ts'
import { deny, Refusal } from '../../protocol/errors.ts'
import type { Parts } from './api.ts'
import type { Serve } from './handler.ts'

type Mcp = Parts & {
  version: string
  publicUrl: string
  /** Whether pages of this origin may use the server. */
  allowed: (origin: string) => boolean
  /** Resolves to the actor of the request's bearer token. */
  identify: (request: FastifyRequest) => Promise<Actor>
  /** Limits the bodies of the routes below `scope`. */
  boundBodies: (scope: FastifyInstance) => void
  /** Runs a call that counts until its response is closed. Throws `unavailable` above a limit. */
  gate: (sub: string, reply: FastifyReply, call: () => Promise<void>) => Promise<void>
  explain: (error: unknown) => Refusal
}

/** The most calls in one request: clients of 2025-03-26 may send several as a list. */
const mostCalls = 16
const metadataPath = '/.well-known/oauth-protected-resource'

/** Returns a signal that is aborted if the client disconnects before its response. */
const goneOf = ({ raw }: FastifyReply): AbortSignal => {
  const controller = new AbortController()
  const onClose = (): void => {
    if (!raw.writableFinished) controller.abort()
  }
  if (raw.destroyed) onClose()
  raw.once('close', onClose)
  return controller.signal
}

/** The request's headers, without those of its connection and body. */
const headersOf = ({ headers }: FastifyRequest): Headers => {
  const sent = new Headers()
  for (const [name, value] of Object.entries(headers))
    if (typeof value === 'string' && !/^(connection|content-length|host|transfer-encoding|upgrade)$/.test(name))
      sent.set(name, value)
  return sent
}

export const installMcp = async (http: FastifyInstance, parts: Mcp): Promise<void> => {
  const { publicUrl, draining } = parts
  const hidden = { schema: { hide: true } }
  let loading: Promise<Serve> | undefined
  const load = (): Promise<Serve> =>
    (loading ??= import('./handler.ts').then(({ makeHandler }) => makeHandler(parts, parts)))

  for (const path of [metadataPath, `${metadataPath}/mcp`])
    http.get(path, hidden, (request) => ({
      resource: `${ownOrigin(request, publicUrl)}/mcp`,
      bearer_methods_supported: ['header'],
      resource_name: 'Mission Deck',
    }))
  // There are no sessions to follow or to end.
  http.route({
    method: ['GET', 'DELETE'],
    url: '/mcp',
    ...hidden,
    handler: (_request, reply) => {
      reply.header('allow', 'POST')
      throw deny('bad_request', 'use POST: this server keeps no sessions', {}, 405)
    },
  })

  const actors = new WeakMap<FastifyRequest, Actor>()
  await http.register((scope, _options, done) => {
    scope.addHook('onRequest', async (request, reply) => {
      if (draining.aborted) throw deny('unavailable', 'the server is restarting')
      const { origin } = request.headers
      if (origin !== undefined && !isOwnPage(request, publicUrl) && !parts.allowed(origin))
        throw deny('forbidden', 'pages of this origin are not in ALLOWED_ORIGINS')
      try {
        actors.set(request, await parts.identify(request))
      } catch (error) {
        if (error instanceof Refusal && error.code === 'unauthorized') {
          const metadata = `${ownOrigin(request, publicUrl)}${metadataPath}/mcp`
          reply.header('www-authenticate', `Bearer resource_metadata="${metadata}"`)
        }
        throw error
      }
    })
    parts.boundBodies(scope)
    scope.post('/mcp', hidden, async (request, reply) => {
      const actor = actors.get(request)
      if (!actor) throw deny('unauthorized')
      if (Array.isArray(request.body) && request.body.length > mostCalls)
        throw deny('bad_request', `a request has at most ${mostCalls} calls`)
      const gone = goneOf(reply)
      const serve = await load()
      const { authorization = '' } = request.headers
      await parts.gate(actor.sub, reply, async () => {
        const { status, headers, body } = await serve(
          new Request(`${ownOrigin(request, publicUrl)}/mcp`, {
            method: 'POST',
            headers: headersOf(request),
            signal: gone,
          }),
          request.body,
          { actor, authorization, address: request.ip, gone },
        )
        reply.status(status).headers(Object.fromEntries(headers)).header('cache-control', 'no-store, no-transform')
        void reply.send(body === null ? null : Readable.fromWeb(body))
      })
      return reply
    })
    done()
  })
}
