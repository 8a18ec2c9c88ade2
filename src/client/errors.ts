// What the client rejects with: the server's errors under their own codes, and three of its own: `overloaded` (more waits than
// may wait), `closed` (the deck was closed) and `cancelled` (somebody asked the writer of a reply to stop). Decide by the code.
// No token is ever part of one.
import type { ErrorCode } from '../protocol/errors.ts'

export type DeckErrorCode = ErrorCode | 'overloaded' | 'closed' | 'cancelled'

/** What an error may carry besides code and detail. */
export type DeckErrorExtra = {
  /** seconds to wait */
  retry_after?: number
  /** finds an `internal` error again in the server's log */
  error_id?: string
  /** of a message that was not acknowledged: sending it again under this key is safe */
  key?: string
  /** whether what was asked may have been done all the same */
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

/** Whether it may pass, so that the same may be asked again. */
export const isPassing = (error: unknown): error is DeckError =>
  error instanceof DeckError && (error.code === 'unavailable' || error.code === 'rate_limited')

/** An error as the server says it, in a frame or a body; names that are not an error's are left out. */
export const fromServer = (said: Record<string, unknown>): DeckError => {
  const { code, detail, retry_after, error_id, maybe, seq, epoch, offset } = said
  const extra = { retry_after, error_id, maybe, seq, epoch, offset }
  return new DeckError(
    code as DeckErrorCode,
    String(detail),
    Object.fromEntries(Object.entries(extra).filter(([, value]) => value != null)),
  )
}
