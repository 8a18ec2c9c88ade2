// The page's session: how one may sign in here, tokens, and signing out.
import type { FastifyInstance } from 'fastify'
import { deny } from '../../protocol/errors.ts'
import { LoginOptions, Logout, SessionToken } from '../../protocol/people.ts'
import Type from '../../protocol/typebox.ts'
import { sessionCookie, writeCookie } from './cookies.ts'
import type { Desk } from './desk.ts'

/** Seconds for which a session's token is valid. */
const tokenSeconds = 600

/** Documents a route of /auth, which takes no token. */
const describe = (summary: string, response: Record<number, unknown>) => ({
  schema: { tags: ['access'], summary, security: [], response },
})

export const sessionRoutes = (app: FastifyInstance, desk: Desk): void => {
  const { sessions, tokens } = desk

  app.get('/auth', describe('How people sign in to this server', { 200: LoginOptions }), async (request) => ({
    login: desk.provider !== undefined,
    sub: (await desk.sessionOf(request))?.sub ?? null,
  }))

  app.post(
    '/auth/token',
    describe("Get a token for the browser's session (cookie, and the server's own Origin)", { 200: SessionToken }),
    async (request, reply) => {
      const secret = desk.secretOf(request)
      const session = secret === undefined ? undefined : await sessions.use(secret)
      if (secret === undefined || !session || !desk.mayEnter(session))
        throw deny('unauthorized', 'nobody is signed in here: sign in, or open an invite link')
      const { id, sub, missions } = session
      const expires = Math.floor(Date.now() / 1000) + tokenSeconds
      const token = await tokens.sign(
        { sub, role: desk.roleOf(session), sid: id, ...(missions === undefined ? {} : { missions }) },
        tokenSeconds,
      )
      desk.keepCookie(request, reply, secret)
      return { token, expires_at: new Date(expires * 1000).toISOString() }
    },
  )

  app.post(
    '/auth/logout',
    describe("End the browser's session and its tokens (cookie, and the server's own Origin)", {
      200: Logout,
      204: Type.Null({ description: 'the session has ended' }),
    }),
    async (request, reply) => {
      const secret = desk.secretOf(request)
      const session = secret === undefined ? undefined : await sessions.find(secret)
      if (secret !== undefined && session) await sessions.end(secret, session.sub)
      await desk.readRevocations()
      const origin = desk.originOf(request)
      reply.header('set-cookie', writeCookie(sessionCookie, '', 0, origin))
      const url = session?.provider ? await desk.provider?.logoutAddress(`${origin}/`) : undefined
      return url === undefined ? reply.status(204).send() : { url }
    },
  )
}
