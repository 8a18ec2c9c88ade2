// What the routes of signing in share: the browser's session, its cookie and its role.
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify'
import type { Actor } from '../../access/actor.ts'
import { ownOrigin } from '../../access/own-origin.ts'
import type { Tokens } from '../../access/tokens.ts'
import { sessionDays, type LiveSession, type Person, type Sessions } from '../../database/sessions.ts'
import { readCookie, sessionCookie, writeCookie } from './cookies.ts'
import { makeProvider, type ProviderSettings } from './provider.ts'

export type SignIn = {
  sessions: Sessions
  tokens: Tokens
  log: FastifyBaseLogger
  /** Resolves once this instance has read the revocations. */
  readRevocations: () => Promise<void>
  publicUrl: string
  /** whether the server has JWT_SECRET */
  signs: boolean
  /** undefined: people sign in with invites only */
  provider: ProviderSettings | undefined
  /** JWT_SECRET, and JWT_SECRET_PREVIOUS if there is one */
  secrets: readonly string[]
}

/** What the routes share. */
export type Desk = ReturnType<typeof makeDesk>

export const makeDesk = (parts: SignIn) => {
  const { sessions, tokens, publicUrl, provider } = parts
  const secretOf = (request: FastifyRequest): string | undefined => readCookie(request.headers.cookie, sessionCookie)
  const originOf = (request: FastifyRequest): string => ownOrigin(request, publicUrl)
  /** The role now: an admin of OIDC_ADMINS is one only while it is listed. */
  const roleOf = ({ sub, role, provider: external }: Pick<Person, 'sub' | 'role' | 'provider'>): Person['role'] =>
    external && provider?.admins.has(sub) ? 'admin' : role
  /** Whether a session's person is not revoked. */
  const mayEnter = ({ id, sub, role, missions }: LiveSession): boolean => {
    const claim = Array.isArray(missions) ? new Set(missions.map(String)) : missions
    const actor: Actor = { sub, role, missions: claim, expires: Infinity, token: undefined, session: id }
    return tokens.holds(actor)
  }

  return {
    ...parts,
    provider: provider && makeProvider(provider),
    originOf,
    secretOf,
    roleOf,
    mayEnter,

    /** The browser's session, without noting a use. */
    async sessionOf(request: FastifyRequest): Promise<LiveSession | undefined> {
      const secret = secretOf(request)
      const session = secret === undefined ? undefined : await sessions.find(secret)
      return session && mayEnter(session) ? session : undefined
    },

    keepCookie(request: FastifyRequest, reply: FastifyReply, secret: string): void {
      const seconds = sessionDays * 86_400
      reply.header('set-cookie', writeCookie(sessionCookie, secret, seconds, originOf(request)))
    },

    /** Starts a session in the browser. Its former session ends, and so do that one's tokens. */
    async enter(request: FastifyRequest, reply: FastifyReply, person: Person): Promise<void> {
      const secret = await sessions.start(person, roleOf(person), secretOf(request))
      await parts.readRevocations()
      this.keepCookie(request, reply, secret)
    },
  }
}
