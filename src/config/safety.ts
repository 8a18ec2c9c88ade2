// Checks of the environment: invalid values, and settings that production refuses.
import { isIP } from 'node:net'
import { citizenPattern } from '../protocol/topics.ts'
import type { Env } from './environment.ts'

/** Returns the parts of a comma-separated text, without empty parts. */
export const listOf = (text: string): string[] =>
  text
    .split(',')
    .map((part) => part.trim())
    .filter(Boolean)

/** Returns an origin in the form that browsers send. */
export const toOrigin = (text: string): string =>
  /^https?:/i.test(text) && URL.canParse(text) ? new URL(text).origin : text.toLowerCase().replace(/\/$/, '')

const isOrigin = (text: string): boolean => text === '*' || /^[a-z][a-z0-9+.-]*:\/\/[^\s/?#@]+\/?$/i.test(text)
const isAddress = (text: string): boolean => {
  if (['loopback', 'linklocal', 'uniquelocal'].includes(text)) return true
  const [address = '', bits = '0', ...more] = text.split('/')
  return (
    more.length === 0 && isIP(address) > 0 && /^\d{1,3}$/.test(bits) && Number(bits) <= (isIP(address) === 4 ? 32 : 128)
  )
}
const ownMachine = /^(localhost|127(\.\d+){3}|\[::1\])$/

const isWebAddress = (text: string): boolean => URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)

/** Returns a sentence for each invalid value. */
export const mistakes = (env: Env): string[] => {
  const faults: string[] = []
  for (const name of ['DATABASE_URL', 'DATABASE_DIRECT_URL', 'DATABASE_REPLICA_URL'] as const)
    if (env[name] && !/^postgres(ql)?:\/\//.test(env[name]))
      faults.push(`${name} must begin with postgres:// or postgresql://.`)
  if (!new RegExp(citizenPattern).test(env.RUN_CITIZEN))
    faults.push('RUN_CITIZEN must be the name of a citizen: a lower-case letter, then up to 31 of a-z, 0-9, _ and -.')
  if (env.JWKS_URL && !isWebAddress(env.JWKS_URL)) faults.push('JWKS_URL must be an address that begins with https://.')
  if (
    env.PUBLIC_URL &&
    !(isWebAddress(env.PUBLIC_URL) && new URL(env.PUBLIC_URL).href === `${new URL(env.PUBLIC_URL).origin}/`)
  )
    faults.push('PUBLIC_URL must be an address without a path, such as https://deck.example.')
  if (env.OIDC_ISSUER) {
    if (!isWebAddress(env.OIDC_ISSUER)) faults.push('OIDC_ISSUER must be an address that begins with https://.')
    if (!env.OIDC_CLIENT_ID) faults.push('OIDC_ISSUER needs OIDC_CLIENT_ID.')
    if (!env.JWT_SECRET) faults.push('OIDC_ISSUER needs JWT_SECRET: the server signs the tokens of those who sign in.')
  }
  for (const name of ['OTEL_EXPORTER_OTLP_ENDPOINT', 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'] as const)
    if (env[name] && !isWebAddress(env[name]))
      faults.push(`${name} must be an address that begins with http:// or https://.`)
  if (!listOf(env.HINTS_URL).every((url) => /^(nats|tls):$/.test(URL.canParse(url) ? new URL(url).protocol : '')))
    faults.push('HINTS_URL must be addresses that begin with nats:// or tls://.')
  for (const origin of listOf(env.ALLOWED_ORIGINS).filter((origin) => !isOrigin(origin)))
    faults.push(`ALLOWED_ORIGINS: ${origin} is not an origin; an example is https://app.example.`)
  if (!listOf(env.TRUST_PROXY).every(isAddress))
    faults.push('TRUST_PROXY must be addresses of proxies, such as 10.0.0.0/8, loopback, linklocal or uniquelocal.')
  return faults
}

/** Returns a sentence for each setting that production refuses. */
export const unsafe = (env: Env): string[] => {
  const faults: string[] = []
  if (!env.JWT_SECRET && !env.JWKS_URL)
    faults.push('JWT_SECRET is required in production (at least 32 bytes), or JWKS_URL.')
  for (const name of ['JWT_SECRET', 'JWT_SECRET_PREVIOUS'] as const)
    if (env[name] && Buffer.byteLength(env[name]) < 32)
      faults.push(`${name} is too short: at least 32 bytes are needed.`)
  if (env.JWKS_URL && URL.canParse(env.JWKS_URL)) {
    const { protocol, hostname } = new URL(env.JWKS_URL)
    if (protocol !== 'https:' && !ownMachine.test(hostname))
      faults.push('JWKS_URL must begin with https:// in production: over http an attacker can replace the keys.')
  }
  if (env.OIDC_ISSUER && isWebAddress(env.OIDC_ISSUER)) {
    const { protocol, hostname } = new URL(env.OIDC_ISSUER)
    if (protocol !== 'https:' && !ownMachine.test(hostname))
      faults.push('OIDC_ISSUER must begin with https:// in production: over http an attacker can sign in as anybody.')
  }
  if (env.JWKS_URL && !(env.JWT_ISSUER && env.JWT_AUDIENCE))
    faults.push(
      'JWKS_URL needs JWT_ISSUER and JWT_AUDIENCE in production: the provider also signs tokens for other services.',
    )
  if (env.RATE_LIMITS === 'off' && env.ALLOW_UNSAFE !== '1')
    faults.push('RATE_LIMITS=off is for benchmarks and tests; in production it needs ALLOW_UNSAFE=1.')
  if (!env.DATABASE_URL)
    faults.push('DATABASE_URL is required in production: the embedded database is for trials only.')
  if (listOf(env.ALLOWED_ORIGINS).includes('*'))
    faults.push('ALLOWED_ORIGINS=* is refused in production: list the origins.')
  return faults
}
