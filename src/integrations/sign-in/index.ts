// Signing in: routes under /auth. They alone take the cookie of a session. With it a page gets deck tokens of ten minutes; the API and
// sockets take those tokens and nothing else. A POST needs the server's own Origin, so a page of another site can't use the cookie.
import type { FastifyInstance } from 'fastify'
import { isOwnPage } from '../../access/own-origin.ts'
import { deny } from '../../protocol/errors.ts'
import { commandLineRoutes } from './command-line.ts'
import { makeDesk, type SignIn } from './desk.ts'
import { inviteRoutes } from './invites.ts'
import { loginRoutes } from './login.ts'
import { sessionRoutes } from './session.ts'

export const installSignIn = async (http: FastifyInstance, parts: SignIn): Promise<void> => {
  const desk = makeDesk(parts)
  await http.register((scope, _options, done) => {
    scope.addContentTypeParser(
      'application/x-www-form-urlencoded',
      { parseAs: 'string', bodyLimit: 16 * 1024 },
      // The forms have no fields.
      (_request, _body, parsed) => parsed(null, undefined),
    )
    scope.addHook('onRequest', async (request, reply) => {
      reply.header('cache-control', 'no-store')
      if (request.method === 'POST' && !isOwnPage(request, parts.publicUrl))
        throw deny('forbidden', "this needs the server's own Origin: open it on the server's page")
      if (!parts.signs) throw deny('not_found', 'sign-in needs JWT_SECRET: set it and restart the server')
    })
    sessionRoutes(scope, desk)
    inviteRoutes(scope, desk)
    loginRoutes(scope, desk)
    commandLineRoutes(scope, desk)
    done()
  })
}
