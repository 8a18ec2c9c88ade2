// The client's errors: the server's errors with their codes, and codes of its own. `overloaded`: the queue of unsent messages is
// full. `closed`: the deck was closed. `cancelled`: the reply was cancelled. `expired`, `withdrawn`: a request to people ended so. Programs decide by the code. No error contains a token.
import type { ErrorCode } from '../protocol/errors.ts'

export type DeckErrorCode = ErrorCode | 'overloaded' | 'closed' | 'cancelled' | 'expired' | 'withdrawn'

/** Optional members of an error besides code and detail. */
export type DeckErrorExtra = {
  /** seconds to wait */
  retry_after?: number
  /** the ID of an `internal` error in the server's log */
  error_id?: string
  /** the key of a message without an answer: sending it again under this key is safe */
  key?: string
  /** the request may have been carried out */
  maybe?: true
  seq?: number
  epoch?: string
  offset?: number
}

export class DeckError extends Error {
  override name = 'DeckError'
  declare readonly retry_after?: number
  declare readonly error_id?: string
  declare readonly key?: string
  declare readonly maybe?: true
  declare readonly seq?: number
  declare readonly epoch?: string
  declare readonly offset?: number
  constructor(
    readonly code: DeckErrorCode,
    readonly detail: string,
    extra: DeckErrorExtra = {},
  ) {
    super(detail)
    Object.assign(this, extra)
  }
}

/** Whether the error is transient: the same request may be sent again. */
export const isPassing = (error: unknown): error is DeckError =>
  error instanceof DeckError && (error.code === 'unavailable' || error.code === 'rate_limited')

/** Makes an error from a server's frame or body. Unknown members are dropped. */
export const fromServer = (body: Record<string, unknown>): DeckError => {
  const { code, detail, retry_after, error_id, maybe, seq, epoch, offset } = body
  const extra = { retry_after, error_id, maybe, seq, epoch, offset }
  return new DeckError(
    code as DeckErrorCode,
    String(detail),
    Object.fromEntries(Object.entries(extra).filter(([, value]) => value != null)),
  )
}
