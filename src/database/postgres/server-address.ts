// Where Postgres is: one host or several (libpq's `host=a,b` and `target_session_attrs`), with TLS or without it. What has to be
// tried out, which of several is the primary and whether it has TLS, is tried when a connection is wanted, not at the start only.
import pg from 'pg'
import { sqlState, WrongServer } from './errors.ts'

/** What a server has to be; libpq's words. */
export const sessionAttributes = ['any', 'read-write', 'read-only', 'primary', 'standby', 'prefer-standby'] as const
type Wanted = (typeof sessionAttributes)[number]

export type ServerAddress = {
  /** what the URL, or PGOPTIONS, asks of each session (libpq's `options`); '': nothing */
  options: string
  /** the URL of one server, as pg takes it; undefined while that has to be looked up */
  known(): string | undefined
  /** Looks it up. Throws what the servers answered. */
  locate(): Promise<string>
  /** A connection failed: the address is looked up again. */
  forget(): void
}

/** ms that one look may take. */
const patience = 2000

/** Parameters of a URL that say how to connect. All others would replace what our sessions ask for. */
const ofConnection = /^(user|password|ssl\w*|uselibpqcompat|application_name)$/

type Parts = {
  hosts: string[]
  options: string
  wanted: Wanted
  urlOf: (host: string, tls: boolean | undefined) => string
  prefers: boolean
}

type Env = { sslmode?: string | undefined; rootCert?: string | undefined; options?: string | undefined }

/** Takes a URL apart. Throws a TypeError, which does not contain the text, if it is not a URL. */
export const parseServerUrl = (text: string, env: Env = {}): Parts => {
  const found = /^(postgres(?:ql)?:\/\/)([^/?#]*@)?([^/?#@]*)([^?#]*)(\?[^#]*)?$/.exec(text)
  const invalid = (): TypeError => Object.assign(new TypeError('Invalid URL'), { code: 'ERR_INVALID_URL' })
  if (!found) throw invalid()
  const [, scheme = '', user = '', authority = '', path = '', query = ''] = found
  const params = new URLSearchParams(query)
  const wanted = (params.get('target_session_attrs') ?? 'any') as Wanted
  const given = params.get('host')?.split(',') ?? authority.split(',')
  const ports = params.get('port')?.split(',') ?? []
  const hosts = given.map((host, n) => {
    const port = ports.length > 1 ? ports[n] : ports[0]
    return params.has('host') && port ? `${host.includes(':') ? `[${host}]` : host}:${port}` : host
  })
  const mode = params.get('sslmode') ?? env.sslmode ?? 'prefer'
  if (env.rootCert && !params.has('sslrootcert') && mode !== 'disable') params.set('sslrootcert', env.rootCert)
  const options = params.get('options') ?? env.options ?? ''
  for (const name of [...params.keys()]) if (!ofConnection.test(name)) params.delete(name)
  params.set('uselibpqcompat', 'true')
  const prefers = mode === 'prefer' || mode === 'allow'
  const urlOf = (host: string, tls: boolean | undefined): string => {
    const own = new URLSearchParams(params)
    own.set('sslmode', tls === undefined ? mode : tls ? 'require' : 'disable')
    if (tls !== undefined) own.delete('sslrootcert')
    // A folder with a Unix socket is no authority.
    const socket = /^(\/[^:]*)(?::(\d+))?$/.exec(host)
    if (socket) own.set('host', socket[1] ?? '')
    if (socket?.[2]) own.set('port', socket[2])
    const url = `${scheme}${user}${socket ? '' : host}${path}?${own.toString()}`
    if (!socket && !URL.canParse(url)) throw invalid()
    return url
  }
  if (!sessionAttributes.includes(wanted))
    throw new TypeError(`target_session_attrs is one of ${sessionAttributes.join(', ')}`)
  for (const host of hosts) urlOf(host, undefined)
  return { hosts, options, wanted, urlOf, prefers }
}

const isUnencrypted = (error: unknown): boolean =>
  (error instanceof Error && /does not support SSL/.test(error.message)) || (sqlState(error) ?? '').startsWith('28')

type Look = { url: string; standby: boolean; readOnly: boolean }

const lookAt = async (url: string, options: string): Promise<Look> => {
  const client = new pg.Client({
    connectionString: url,
    // (query_timeout counts.)
    options: `${options} -c statement_timeout=0`,
    connectionTimeoutMillis: patience,
    query_timeout: patience,
  })
  client.on('error', () => {})
  try {
    await client.connect()
    const { rows } = await client.query<Omit<Look, 'url'>>(
      `select pg_is_in_recovery() as standby, current_setting('transaction_read_only') = 'on' as "readOnly"`,
    )
    return { url, ...(rows[0] ?? { standby: false, readOnly: false }) }
  } finally {
    void client.end().catch(() => {})
  }
}

const fits = (wanted: Wanted, { standby, readOnly }: Look): boolean =>
  wanted === 'any' ||
  (wanted === 'primary' && !standby) ||
  (wanted === 'read-write' && !readOnly) ||
  (wanted === 'read-only' && readOnly) ||
  ((wanted === 'standby' || wanted === 'prefer-standby') && standby)

/** `primary`: of several servers only one that is no standby will do, whatever the URL says. */
export const makeServerAddress = (text: string, { primary, ...env }: Env & { primary: boolean }): ServerAddress => {
  const { hosts, options, wanted: given, urlOf, prefers } = parseServerUrl(text, env)
  const wanted = primary && hosts.length > 1 && given !== 'read-write' ? 'primary' : given
  const fixed = hosts.length === 1 && !prefers ? urlOf(hosts[0] ?? '', undefined) : undefined
  let found = fixed
  let looking: Promise<string> | undefined

  /** A host as it is reached: with TLS if it has that. */
  const reach = async (host: string): Promise<Look> => {
    // Nobody listens in on a socket of this machine.
    if (!prefers || host.startsWith('/')) return lookAt(urlOf(host, prefers ? false : undefined), options)
    try {
      return await lookAt(urlOf(host, true), options)
    } catch (error) {
      if (isUnencrypted(error)) return lookAt(urlOf(host, false), options)
      throw error
    }
  }

  const look = async (): Promise<string> => {
    if (hosts.length === 1) return (await reach(hosts[0] ?? '')).url
    const looks = hosts.map(reach)
    const first = looks.map(async (asked) => {
      const it = await asked
      if (!fits(wanted, it)) throw new WrongServer(`none of ${hosts.length} servers is ${wanted} right now`)
      return it.url
    })
    try {
      return await Promise.any(first)
    } catch (error) {
      const errors = error instanceof AggregateError ? (error.errors as unknown[]) : [error]
      const other =
        wanted === 'prefer-standby'
          ? (await Promise.allSettled(looks)).find((it) => it.status === 'fulfilled')
          : undefined
      if (other) return other.value.url
      throw errors.find((each) => each instanceof WrongServer) ?? errors[0]
    }
  }

  return {
    options,
    known: () => found,
    locate: () =>
      (looking ??= look()
        .then((url) => (found = url))
        .finally(() => (looking = undefined))),
    forget: () => void (found = fixed),
  }
}
