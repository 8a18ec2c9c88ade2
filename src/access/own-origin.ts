// The server's own origin: PUBLIC_URL or, without it, the Host of the request under the scheme that a trusted proxy reports.

/** What a request says about its address. `host`: the header Host. */
export type Addressed = { headers: { host?: string | undefined; origin?: string | undefined }; protocol: string }

export const ownOrigin = ({ headers, protocol }: Addressed, publicUrl: string): string =>
  publicUrl ? new URL(publicUrl).origin : `${protocol}://${headers.host ?? ''}`

/** Returns whether a request comes from a page of this server. Without PUBLIC_URL only host and port count: a proxy may end TLS. */
export const isOwnPage = ({ headers }: Pick<Addressed, 'headers'>, publicUrl: string): boolean => {
  const { origin, host } = headers
  if (!origin || !/^https?:\/\//.test(origin) || !URL.canParse(origin)) return false
  if (publicUrl) return origin === new URL(publicUrl).origin
  const sent = new URL(origin)
  const own = `${sent.protocol}//${host ?? ''}`
  return sent.origin === origin && URL.canParse(own) && new URL(own).host === sent.host
}

/** Returns whether an origin is on this machine, where a browser accepts cookies without TLS. */
export const isLoopback = (origin: string): boolean =>
  /^(localhost|127(\.\d+){3}|\[::1\])$/.test(URL.canParse(origin) ? new URL(origin).hostname : '')
