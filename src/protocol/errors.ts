// Errors are born named, from this one table, and rendered once: for frames (live/connections/session) and for HTTP (http/plugins/errors).
// A detail is for the reader; clients decide by the code.

const table = {
  bad_request: { status: 400, detail: 'the request is not valid' },
  unauthorized: { status: 401, detail: 'a valid token is needed' },
  forbidden: { status: 403, detail: 'this role may not do that' },
  not_found: { status: 404, detail: 'there is no such thing' },
  conflict: { status: 409, detail: 'the state has changed meanwhile' },
  too_large: { status: 413, detail: 'the body is too large' },
  rate_limited: { status: 429, detail: 'too many requests' },
  internal: { status: 500, detail: 'something went wrong on the server' },
  unavailable: { status: 503, detail: 'the database can not be reached right now' },
} as const

export type ErrorCode = keyof typeof table
export const errorCodes = Object.keys(table) as ErrorCode[]

/** What a refusal may carry besides code and detail; `retry_after` is in seconds. */
export type ErrorExtra = {
  seq?: number
  epoch?: string
  offset?: number
  maybe?: true
  retry_after?: number
  /** of an internal error: found again in the log */
  error_id?: string
}

/** A refusal that its receiver may see: its code decides, its detail explains, it never holds a secret. */
export class Refusal extends Error {
  readonly status: number
  constructor(
    readonly code: ErrorCode,
    readonly detail: string,
    readonly extra: ErrorExtra = {},
    status?: number,
  ) {
    super(detail)
    this.name = 'Refusal'
    this.status = status ?? table[code].status
  }
}

/** Makes a refusal; to be thrown or sent. */
export const deny = (code: ErrorCode, detail?: string, extra?: ErrorExtra, status?: number): Refusal =>
  new Refusal(code, detail ?? table[code].detail, extra ?? (code === 'unavailable' ? { retry_after: 1 } : {}), status)

/** Overload. retry_after is spread, so that clients do not all return at once. */
export const overloaded = (detail = 'overloaded: there is more to do than can be done'): Refusal =>
  deny('unavailable', detail, { retry_after: Math.round(1 + Math.random() * 4) })

/** The same answer for a mission that is not there and for one that may not be seen. */
export const noMission = (): Refusal => deny('not_found', 'no such mission')
