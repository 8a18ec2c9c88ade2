// Signing in the command line: the browser, which is signed in, gives a code to a port of its own machine. Only the program that has the
// code's verifier can exchange it for a session, once, within a minute.
import type { FastifyInstance } from 'fastify'
import { deny } from '../../protocol/errors.ts'
import Type, { type Static } from '../../protocol/typebox.ts'
import type { Desk } from './desk.ts'
import { sendPage } from './pages.ts'

const Query = Type.Object({
  port: Type.Integer({ minimum: 1, maximum: 65_535 }),
  state: Type.String({ pattern: '^[\\w-]{16,64}$' }),
  challenge: Type.String({ pattern: '^[\\w-]{43}$' }),
})
const Exchange = Type.Object({
  code: Type.String({ pattern: '^[\\w-]{43}$' }),
  verifier: Type.String({ pattern: '^[\\w-]{43,128}$' }),
})

export const commandLineRoutes = (app: FastifyInstance, desk: Desk): void => {
  const { sessions } = desk
  const options = { schema: { hide: true, querystring: Query } }

  app.get<{ Querystring: Static<typeof Query> }>('/auth/cli', options, async (request, reply) => {
    const session = await desk.sessionOf(request)
    if (!session && desk.provider) return reply.redirect(`/auth/login?return=${encodeURIComponent(request.url)}`, 303)
    if (!session)
      return sendPage(reply, {
        status: 401,
        title: 'You are not signed in',
        text: ['Open your invite link in this browser first. Then run mission-deck login again.'],
      })
    return sendPage(reply, {
      status: 200,
      title: 'Sign in the command line',
      text: [
        `The command line of this machine asks to sign in as ${session.sub}. Confirm only what you have started yourself.`,
      ],
      button: `Sign in as ${session.sub}`,
      redirects: `http://127.0.0.1:${request.query.port}`,
    })
  })

  app.post<{ Querystring: Static<typeof Query> }>('/auth/cli', options, async (request, reply) => {
    const session = await desk.sessionOf(request)
    if (!session) throw deny('unauthorized', 'nobody is signed in here: sign in, or open an invite link')
    const { port, state, challenge } = request.query
    const { sub, role, missions, provider } = session
    const { secret } = await sessions.invite({ sub, role, missions, provider, challenge, by: sub, seconds: 60 })
    return reply.redirect(`http://127.0.0.1:${port}/?code=${secret}&state=${state}`, 303)
  })

  app.post<{ Body: Static<typeof Exchange> }>(
    '/auth/cli/session',
    { schema: { hide: true, body: Exchange } },
    async ({ body }) => {
      const person = await sessions.redeem(body.code, body.verifier)
      if (!person) throw deny('unauthorized', 'the code is unknown, used or expired: run mission-deck login again')
      return { session: await sessions.start(person, desk.roleOf(person)), sub: person.sub }
    },
  )
}
