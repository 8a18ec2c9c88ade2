// Errors in the log: code, message and stack, but never the client, connection or query that an error of pg may carry. Each cause is
// logged at most once in 10 s; the number of its repetitions follows.
import type { FastifyBaseLogger } from 'fastify'

type Written = { type: string; message: string; stack: string; code?: unknown; cause?: Written; errors?: Written[] }

/** The most characters of a message, and of a stack. */
const most = 2000
/** Members of a Postgres error that describe the failure and contain no row data. */
const logged = [
  'code',
  'severity',
  'routine',
  'constraint',
  'table',
  'column',
  'schema',
  'syscall',
  'statusCode',
] as const

/** Returns the part of an error that is logged. */
export const writeError = (error: unknown, depth = 0): Written => {
  if (!(error instanceof Error)) return { type: typeof error, message: String(error).slice(0, most), stack: '' }
  const { name, message, stack = '', cause } = error
  const members = Object.fromEntries(
    logged.flatMap((member) => {
      const value = (error as unknown as Record<string, unknown>)[member]
      return ['string', 'number'].includes(typeof value) ? [[member, value]] : []
    }),
  )
  return {
    type: name,
    message: message.slice(0, most),
    stack: stack.slice(0, most),
    ...members,
    ...(cause !== undefined && depth < 3 ? { cause: writeError(cause, depth + 1) } : {}),
    ...(error instanceof AggregateError && depth < 3
      ? { errors: error.errors.slice(0, 5).map((each) => writeError(each, depth + 1)) }
      : {}),
  }
}

/** ms for which a logged cause is only counted, and the most causes counted at a time. */
const countedFor = 10_000
const causes = 100

const causeOf = (error: unknown): string => {
  const { code, message } = error as { code?: unknown; message?: unknown }
  return `${String(code)} ${String(message).slice(0, 200)}`
}

/** Returns a function that logs database errors; `onEach` is called for every error. */
export const makeFaultLog = (log: FastifyBaseLogger, onEach: () => void): ((error: unknown) => void) => {
  const known = new Map<string, { error: unknown; more: number; timer: NodeJS.Timeout }>()
  const settle = (cause: string): void => {
    const at = known.get(cause)
    known.delete(cause)
    if (at?.more)
      log.warn(
        { code: (at.error as { code?: unknown }).code, times: at.more },
        `database: ${at.more} more: ${(at.error as Error).message.slice(0, 200)}`,
      )
  }
  return (error) => {
    onEach()
    const cause = causeOf(error)
    const at = known.get(cause)
    if (at) return void at.more++
    if (known.size >= causes) {
      const [oldest = ''] = known.keys()
      clearTimeout(known.get(oldest)?.timer)
      settle(oldest)
    }
    known.set(cause, { error, more: 0, timer: setTimeout(() => settle(cause), countedFor).unref() })
    log.warn({ err: error }, 'database')
  }
}
