// The OpenID Connect provider: discovery, the code flow with PKCE, and logout. openid-client is loaded at the first use.
// The provider is asked for its addresses at each sign-in (at most every 10 s), so a server starts while its provider is away. Its keys are
// fetched anew for each answer, so a key that it has rotated counts at once. Clocks may differ by 30 s.
import type * as Client from 'openid-client'
import type { Role } from '../../access/actor.ts'
import type { MissionsClaim, Person } from '../../database/sessions.ts'
import { claimedMissions } from '../../protocol/people.ts'
import type { Login } from './login-state.ts'

export type ProviderSettings = {
  issuer: string
  clientId: string
  clientSecret: string
  subClaim: string
  admins: ReadonlySet<string>
  roleClaim: string
  missionsClaim: string
}

/** Why a person could not sign in. `away`: the provider can't be reached now. */
export class SignInFailure extends Error {
  constructor(
    readonly reason: 'away' | 'refused',
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options)
  }
}

const seconds = { patience: 5, found: 10, skew: 30 }

const toRole = (value: unknown): Role => {
  const names = [value].flat()
  return names.includes('admin') ? 'admin' : names.includes('citizen') ? 'citizen' : 'user'
}

const toMissions = (value: unknown): MissionsClaim => {
  if (value === '*') return '*'
  if (!Array.isArray(value)) return undefined
  return value
    .filter((one): one is string | number => (typeof one === 'string' && one.length <= 36) || Number.isInteger(one))
    .slice(0, claimedMissions)
}

/** Returns the person that a provider's claims describe. Throws `refused` if the claim of the sub is missing, or the address not verified. */
export const toPerson = (claims: Record<string, unknown>, settings: ProviderSettings): Person => {
  const { subClaim, roleClaim, missionsClaim } = settings
  const sub = claims[subClaim]
  if (typeof sub !== 'string' || sub.length === 0 || sub.length > 256 || !sub.isWellFormed() || sub.includes('\0'))
    throw new SignInFailure('refused', `The provider gave no valid claim “${subClaim}” for you.`)
  if (subClaim === 'email' && claims['email_verified'] !== true)
    throw new SignInFailure('refused', 'The provider has not verified your email address.')
  const name = claims['name']
  return {
    sub,
    role: roleClaim ? toRole(claims[roleClaim]) : 'user',
    missions: missionsClaim ? toMissions(claims[missionsClaim]) : undefined,
    provider: true,
    name: typeof name === 'string' ? name.replaceAll('\0', '').toWellFormed().slice(0, 200) : undefined,
  }
}

export const makeProvider = (settings: ProviderSettings) => {
  let found: { config: Client.Configuration; at: number } | undefined
  let finding: Promise<Client.Configuration> | undefined
  const plain = settings.issuer.startsWith('http:')

  const prepare = (client: typeof Client, config: Client.Configuration): Client.Configuration => {
    config.timeout = seconds.patience
    client.enableNonRepudiationChecks(config)
    if (plain) client.allowInsecureRequests(config)
    return config
  }

  /** How the server proves to the provider who it is. */
  const authOf = (client: typeof Client, methods: string[] | undefined): Client.ClientAuth => {
    if (!settings.clientSecret) return client.None()
    const basic = !methods || (methods.includes('client_secret_basic') && !methods.includes('client_secret_post'))
    return basic ? client.ClientSecretBasic(settings.clientSecret) : client.ClientSecretPost(settings.clientSecret)
  }

  const discover = async (): Promise<Client.Configuration> => {
    if (found && performance.now() - found.at < seconds.found * 1000) return found.config
    finding ??= (async () => {
      const client = await import('openid-client')
      const config = await client.discovery(new URL(settings.issuer), settings.clientId, undefined, undefined, {
        timeout: seconds.patience,
        execute: plain ? [client.allowInsecureRequests] : [],
      })
      found = { config, at: performance.now() }
      return config
    })().finally(() => (finding = undefined))
    return finding.catch((error: unknown) => {
      throw new SignInFailure('away', 'The sign-in provider can not be reached right now.', { cause: error })
    })
  }

  /** A configuration without cached keys. */
  const fresh = async (): Promise<{ client: typeof Client; config: Client.Configuration }> => {
    const server = (await discover()).serverMetadata()
    const client = await import('openid-client')
    const auth = authOf(client, server.token_endpoint_auth_methods_supported)
    return {
      client,
      config: prepare(
        client,
        new client.Configuration(server, settings.clientId, { [client.clockTolerance]: seconds.skew }, auth),
      ),
    }
  }

  return {
    /** Returns the address to which a browser is sent to sign in. Throws `away`. */
    async address({ state, nonce, verifier }: Login, redirect: string): Promise<string> {
      const { client, config } = await fresh()
      return client.buildAuthorizationUrl(config, {
        redirect_uri: redirect,
        scope: 'openid email profile',
        state,
        nonce,
        code_challenge: await client.calculatePKCECodeChallenge(verifier),
        code_challenge_method: 'S256',
      }).href
    },

    /** Returns the person that the provider's answer names. Throws `away` or `refused`. */
    async person(answer: URL, { state, nonce, verifier }: Login): Promise<Person> {
      const { client, config } = await fresh()
      let claims: Record<string, unknown>
      try {
        const tokens = await client.authorizationCodeGrant(config, answer, {
          pkceCodeVerifier: verifier,
          expectedState: state,
          expectedNonce: nonce,
          idTokenExpected: true,
        })
        const own = tokens.claims()
        if (!own) throw new SignInFailure('refused', 'The provider did not say who you are.')
        const more = config.serverMetadata().userinfo_endpoint
          ? await client.fetchUserInfo(config, tokens.access_token, own.sub)
          : {}
        claims = { ...more, ...own }
      } catch (error) {
        if (error instanceof SignInFailure) throw error
        const { code } = error as { code?: string }
        const away =
          (error instanceof TypeError && code === undefined) ||
          code === 'OAUTH_TIMEOUT' ||
          (code === 'OAUTH_RESPONSE_IS_NOT_CONFORM' && isServerError((error as Error).cause))
        throw away
          ? new SignInFailure('away', 'The sign-in provider can not be reached right now.', { cause: error })
          : new SignInFailure('refused', 'The answer of the sign-in provider was not accepted.', { cause: error })
      }
      return toPerson(claims, settings)
    },

    /** Returns the address that ends the provider's own session. Undefined if it has none, or is away. */
    async logoutAddress(back: string): Promise<string | undefined> {
      try {
        const { client, config } = await fresh()
        if (!config.serverMetadata().end_session_endpoint) return undefined
        return client.buildEndSessionUrl(config, { post_logout_redirect_uri: back }).href
      } catch {
        return undefined
      }
    },
  }
}
export type Provider = ReturnType<typeof makeProvider>

const isServerError = (cause: unknown): boolean => cause instanceof Response && cause.status >= 500
