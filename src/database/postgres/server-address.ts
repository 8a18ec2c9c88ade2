// The address of Postgres: one host or several (libpq's `host=a,b` and `target_session_attrs`), with or without TLS. The URL may leave open
// which host is the primary, or whether a host supports TLS. Then this is probed whenever connections are opened, not only at the start.
import pg from 'pg'
import { sqlState, WrongServer } from './errors.ts'

/** Required properties of a server, as in libpq's target_session_attrs. */
export const sessionAttributes = ['any', 'read-write', 'read-only', 'primary', 'standby', 'prefer-standby'] as const
type Wanted = (typeof sessionAttributes)[number]

export type ServerAddress = {
  /** session settings of the URL or PGOPTIONS (libpq's `options`), or '' */
  options: string
  /** Returns the URL of one server, in pg's format; undefined if it must be located first. */
  known(): string | undefined
  /** Locates a server. Rejects with the error of a server. */
  locate(): Promise<string>
  /** Discards the located server, because a connection failed. */
  forget(): void
}

/** ms that connecting to a server and checking it may take. */
const patience = 2000

/** Parameters of a URL that are kept. All others could override the sessions' settings. */
const ofConnection = /^(user|password|ssl\w*|uselibpqcompat|application_name)$/

type Parts = {
  hosts: string[]
  options: string
  wanted: Wanted
  urlOf: (host: string, tls: boolean | undefined) => string
  prefers: boolean
}

type Env = { sslmode?: string | undefined; rootCert?: string | undefined; options?: string | undefined }

/** Parses a URL. If it is invalid, throws a TypeError that does not contain the text. */
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
    // The folder of a Unix socket can't be a URL's host: it is a parameter.
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

type Server = { url: string; standby: boolean; readOnly: boolean }

const probe = async (url: string, options: string): Promise<Server> => {
  const client = new pg.Client({
    connectionString: url,
    // (query_timeout limits the query.)
    options: `${options} -c statement_timeout=0`,
    connectionTimeoutMillis: patience,
    query_timeout: patience,
  })
  client.on('error', () => {})
  try {
    await client.connect()
    const { rows } = await client.query<Omit<Server, 'url'>>(
      `select pg_is_in_recovery() as standby, current_setting('transaction_read_only') = 'on' as "readOnly"`,
    )
    return { url, ...(rows[0] ?? { standby: false, readOnly: false }) }
  } finally {
    void client.end().catch(() => {})
  }
}

const fits = (wanted: Wanted, { standby, readOnly }: Server): boolean =>
  wanted === 'any' ||
  (wanted === 'primary' && !standby) ||
  (wanted === 'read-write' && !readOnly) ||
  (wanted === 'read-only' && readOnly) ||
  ((wanted === 'standby' || wanted === 'prefer-standby') && standby)

/** `primary`: if there are several servers, accepts only one that is not a standby, whatever the URL requires. */
export const makeServerAddress = (text: string, { primary, ...env }: Env & { primary: boolean }): ServerAddress => {
  const { hosts, options, wanted: given, urlOf, prefers } = parseServerUrl(text, env)
  const wanted = primary && hosts.length > 1 && given !== 'read-write' ? 'primary' : given
  const fixed = hosts.length === 1 && !prefers ? urlOf(hosts[0] ?? '', undefined) : undefined
  let found = fixed
  let locating: Promise<string> | undefined

  /** Connects to a host, with TLS if the host supports it. */
  const reach = async (host: string): Promise<Server> => {
    // A Unix socket needs no TLS.
    if (!prefers || host.startsWith('/')) return probe(urlOf(host, prefers ? false : undefined), options)
    try {
      return await probe(urlOf(host, true), options)
    } catch (error) {
      if (isUnencrypted(error)) return probe(urlOf(host, false), options)
      throw error
    }
  }

  const locate = async (): Promise<string> => {
    if (hosts.length === 1) return (await reach(hosts[0] ?? '')).url
    const probes = hosts.map(reach)
    const first = probes.map(async (pending) => {
      const server = await pending
      if (!fits(wanted, server)) throw new WrongServer(`none of ${hosts.length} servers is ${wanted} right now`)
      return server.url
    })
    try {
      return await Promise.any(first)
    } catch (error) {
      const errors = error instanceof AggregateError ? (error.errors as unknown[]) : [error]
      const other =
        wanted === 'prefer-standby'
          ? (await Promise.allSettled(probes)).find((outcome) => outcome.status === 'fulfilled')
          : undefined
      if (other) return other.value.url
      throw errors.find((each) => each instanceof WrongServer) ?? errors[0]
    }
  }

  return {
    options,
    known: () => found,
    locate: () =>
      (locating ??= locate()
        .then((url) => (found = url))
        .finally(() => (locating = undefined))),
    forget: () => void (found = fixed),
  }
}
