// Invite links. Opening one shows a page and uses nothing up, so previews of links do no harm; the page's form redeems it.
import type { FastifyInstance, FastifyReply } from 'fastify'
import type { Desk } from './desk.ts'
import { sendPage } from './pages.ts'

type Query = { code?: string }

const spent = (reply: FastifyReply): FastifyReply =>
  sendPage(reply, {
    status: 404,
    title: 'This link is not valid',
    text: ['It was used, or it has expired. Ask an admin for a new one.'],
  })

export const inviteRoutes = (app: FastifyInstance, desk: Desk): void => {
  const { sessions } = desk
  const codeOf = ({ code }: Query): string => (typeof code === 'string' && code.length <= 200 ? code : '')
  const options = { schema: { hide: true } }

  app.get<{ Querystring: Query }>('/auth/invite', options, async (request, reply) => {
    const invite = await sessions.findInvite(codeOf(request.query))
    if (!invite) return spent(reply)
    const present = await desk.sessionOf(request)
    return sendPage(reply, {
      status: 200,
      title: 'Sign in to Mission Deck',
      text: [
        `This link signs you in as ${invite.sub}. It works once.`,
        ...(present ? [`You are signed in as ${present.sub} in this browser. That session ends.`] : []),
      ],
      button: `Sign in as ${invite.sub}`,
    })
  })

  app.post<{ Querystring: Query }>('/auth/invite', options, async (request, reply) => {
    const person = await sessions.redeem(codeOf(request.query))
    if (!person) return spent(reply)
    await desk.enter(request, reply, person)
    return reply.redirect('/', 303)
  })
}
