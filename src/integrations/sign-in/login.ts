// Signing in with the identity provider: the way there and back.
import type { FastifyInstance, FastifyReply } from 'fastify'
import { loginCookie, newSecret, readCookie, writeCookie } from './cookies.ts'
import type { Desk } from './desk.ts'
import { localPath, loginSeconds, makeLogins } from './login-state.ts'
import { sendPage } from './pages.ts'
import { SignInFailure } from './provider.ts'

const again: [string, string] = ['/auth/login', 'Sign in again']

const none = (reply: FastifyReply): FastifyReply =>
  sendPage(reply, {
    status: 404,
    title: 'Sign in with an invite',
    text: ['This server has no sign-in provider. Ask an admin for an invite link.'],
  })

const refused = (reply: FastifyReply, why: string): FastifyReply =>
  sendPage(reply, { status: 400, title: 'You are not signed in', text: [why], link: again })

export const loginRoutes = (app: FastifyInstance, desk: Desk): void => {
  const { provider, sessions, log, secrets } = desk
  const logins = makeLogins(secrets)
  const options = { schema: { hide: true } }

  const fail = (reply: FastifyReply, error: unknown): FastifyReply => {
    if (!(error instanceof SignInFailure)) throw error
    const { cause, message, reason } = error
    // (No more of the cause: it may have the code.)
    const why =
      cause instanceof Error ? `${cause.message} ${'code' in cause ? String(cause.code) : ''}`.trim() : undefined
    log.warn({ reason, ...(why === undefined ? {} : { why }) }, 'a sign-in with the provider failed')
    if (reason === 'refused') return refused(reply, message)
    return sendPage(reply.header('retry-after', '10'), {
      status: 503,
      title: 'Sign-in is not possible right now',
      text: [message, 'People who are signed in stay signed in. Try again in a minute.'],
      link: again,
    })
  }

  app.get<{ Querystring: { return?: string } }>('/auth/login', options, async (request, reply) => {
    if (!provider) return none(reply)
    const origin = desk.originOf(request)
    const browser = readCookie(request.headers.cookie, loginCookie) ?? newSecret()
    const { return: back } = request.query
    const login = logins.begin(browser, localPath(typeof back === 'string' ? back : undefined))
    try {
      const address = await provider.address(login, `${origin}/auth/callback`)
      reply.header('set-cookie', writeCookie(loginCookie, browser, loginSeconds, origin))
      return reply.redirect(address, 303)
    } catch (error) {
      return fail(reply, error)
    }
  })

  app.get<{ Querystring: { state?: string } }>('/auth/callback', options, async (request, reply) => {
    if (!provider) return none(reply)
    const { state } = request.query
    const browser = readCookie(request.headers.cookie, loginCookie)
    const login = browser && typeof state === 'string' ? logins.find(browser, state) : undefined
    if (!login)
      return refused(reply, 'This sign-in was not started in this browser, or it took longer than ten minutes.')
    if (!(await sessions.useState(login.state, 2 * loginSeconds)))
      return refused(reply, 'This answer of the sign-in provider was used before.')
    try {
      const person = await provider.person(new URL(request.url, desk.originOf(request)), login)
      await desk.enter(request, reply, person)
    } catch (error) {
      return fail(reply, error)
    }
    return reply.redirect(login.returnTo, 303)
  })
}
