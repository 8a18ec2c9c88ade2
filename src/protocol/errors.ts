// The table of error codes. Errors are encoded for frames by live/connections/session.ts and for HTTP by http/plugins/errors.ts.
// The detail is for people; programs decide by the code.

const table = {
  bad_request: { status: 400, detail: 'the request is not valid' },
  unauthorized: { status: 401, detail: 'a valid token is needed' },
  forbidden: { status: 403, detail: 'this role may not do that' },
  not_found: { status: 404, detail: 'the resource does not exist' },
  conflict: { status: 409, detail: 'the state has changed since it was read' },
  too_large: { status: 413, detail: 'the body is too large' },
  rate_limited: { status: 429, detail: 'too many requests' },
  internal: { status: 500, detail: 'something went wrong on the server' },
  unavailable: { status: 503, detail: 'the database can not be reached right now' },
} as const

export type ErrorCode = keyof typeof table
export const errorCodes = Object.keys(table) as ErrorCode[]

/** Optional members of an error besides code and detail; `retry_after` is in seconds. */
export type ErrorExtra = {
  seq?: number
  epoch?: string
  offset?: number
  maybe?: true
  retry_after?: number
  /** internal errors only: the error has this ID in the log */
  error_id?: string
}

/** An error that is sent to the client. It never contains a secret. */
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

/** Returns a refusal, to be thrown or sent. */
export const deny = (code: ErrorCode, detail?: string, extra?: ErrorExtra, status?: number): Refusal =>
  new Refusal(code, detail ?? table[code].detail, extra ?? (code === 'unavailable' ? { retry_after: 1 } : {}), status)

/** Returns the error of an overloaded server. `retry_after` is random, so that clients do not all return at once. */
export const overloaded = (detail = 'overloaded: retry after `retry_after` seconds'): Refusal =>
  deny('unavailable', detail, { retry_after: Math.round(1 + Math.random() * 4) })

/** Returns the same error for a mission that does not exist and for one that the actor may not see. */
export const noMission = (): Refusal => deny('not_found', 'no such mission')
