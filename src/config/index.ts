// Reads the environment once, checks it and freezes the configuration.
import envSchema from 'env-schema'
import { Environment, type Env } from './environment.ts'
import { limitsOf, type Limits } from './limits.ts'
import { listOf, mistakes, toOrigin, unsafe } from './safety.ts'

export { Environment, type Limits }

export type Config = Readonly<{
  /** endpoint, service name and sampling ratio of traces; undefined: no traces */
  traces: Readonly<{ url: string; service: string; ratio: number }> | undefined
  host: string
  port: number
  databaseUrl: string
  databaseDirectUrl: string
  databaseReplicaUrl: string
  poolMax: number
  /** in seconds */
  startPatience: number
  /** the citizen whose inbox gets the runs that are asked for */
  runCitizen: string
  /** in seconds; 0: no limit */
  runPatience: number
  hintsUrl: string
  dataDir: string
  jwtSecret: string
  /** verifies only */
  jwtSecretPrevious: string
  jwksUrl: string
  jwtIssuer: string
  jwtAudience: string
  /** '' if not configured */
  publicUrl: string
  /** the OpenID Connect provider; undefined: none */
  provider:
    | Readonly<{
        issuer: string
        clientId: string
        clientSecret: string
        subClaim: string
        admins: ReadonlySet<string>
        roleClaim: string
        missionsClaim: string
      }>
    | undefined
  /** addresses of the proxies whose X-Forwarded-For is trusted */
  trustedProxies: string[]
  allowedOrigins: ReadonlySet<string>
  logLevel: string
  production: boolean
  limits: Limits
}>

/** Returns the settings of traces; undefined if traces are off. */
const tracesOf = (env: Env): Config['traces'] => {
  const url =
    env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ||
    (env.OTEL_EXPORTER_OTLP_ENDPOINT && `${env.OTEL_EXPORTER_OTLP_ENDPOINT.replace(/\/$/, '')}/v1/traces`)
  const sampler = env.OTEL_TRACES_SAMPLER.replace('parentbased_', '')
  const ratio = sampler === 'always_on' ? 1 : sampler === 'always_off' ? 0 : env.OTEL_TRACES_SAMPLER_ARG
  return url && ratio > 0 && env.OTEL_SDK_DISABLED !== 'true'
    ? Object.freeze({ url, service: env.OTEL_SERVICE_NAME, ratio })
    : undefined
}

/** Reads the environment and a .env file in the working directory, if it exists. Throws an Error that lists all faults. */
export const readConfig = (environment: NodeJS.ProcessEnv): Config => {
  let env: Env
  try {
    env = envSchema<Env>({ schema: Environment, data: environment, env: false, dotenv: true })
  } catch (error) {
    throw new Error(`The environment is not valid: ${(error as Error).message.replace(/^env\//, '')}`, { cause: error })
  }
  const production = env.NODE_ENV === 'production' || env.RENDER !== ''
  const faults = [...mistakes(env), ...(production ? unsafe(env) : [])]
  if (faults.length > 0) throw new Error(faults.join('\n'))
  return Object.freeze({
    host: env.HOST,
    port: env.PORT,
    databaseUrl: env.DATABASE_URL,
    databaseDirectUrl: env.DATABASE_DIRECT_URL || env.DATABASE_URL,
    databaseReplicaUrl: env.DATABASE_REPLICA_URL,
    poolMax: env.DATABASE_POOL_MAX,
    startPatience: env.START_PATIENCE,
    runCitizen: env.RUN_CITIZEN,
    runPatience: env.RUN_PATIENCE,
    hintsUrl: env.HINTS_URL,
    dataDir: env.DATA_DIR,
    jwtSecret: env.JWT_SECRET,
    jwtSecretPrevious: env.JWT_SECRET_PREVIOUS,
    jwksUrl: env.JWKS_URL,
    jwtIssuer: env.JWT_ISSUER,
    jwtAudience: env.JWT_AUDIENCE,
    publicUrl: env.PUBLIC_URL,
    provider: env.OIDC_ISSUER
      ? Object.freeze({
          issuer: env.OIDC_ISSUER,
          clientId: env.OIDC_CLIENT_ID,
          clientSecret: env.OIDC_CLIENT_SECRET,
          subClaim: env.OIDC_SUB_CLAIM || 'email',
          admins: new Set(listOf(env.OIDC_ADMINS)),
          roleClaim: env.OIDC_ROLE_CLAIM,
          missionsClaim: env.OIDC_MISSIONS_CLAIM,
        })
      : undefined,
    trustedProxies: listOf(env.TRUST_PROXY),
    allowedOrigins: new Set(listOf(env.ALLOWED_ORIGINS).map(toOrigin)),
    logLevel: env.LOG_LEVEL,
    traces: tracesOf(env),
    production,
    limits: Object.freeze(limitsOf(env)),
  })
}
