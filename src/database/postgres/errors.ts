// Classifies errors of Postgres and of the connection: whether the statement took effect, and whether a retry can succeed.
// test/database/postgres-errors.test.ts covers each line of the table.
import pg from 'pg'
import { deny, Refusal } from '../../protocol/errors.ts'

/**
 * retry      the statement had no effect; an immediate retry may succeed
 * wait       the statement had no effect; a later retry on the same connection may succeed
 * reconnect  the statement had no effect; a retry on a different connection or server may succeed
 * lost       the statement may have taken effect; the connection can't be used any more
 */
export type Meaning = 'retry' | 'wait' | 'reconnect' | 'lost'

/** By SQLSTATE, or by its class if the whole class has one meaning. Other errors are a fault of the request or of the server. */
export const meanings: Readonly<Record<string, Meaning>> = {
  '40001': 'retry', // serialization_failure
  '40P01': 'retry', // deadlock_detected
  '40003': 'lost', // statement_completion_unknown
  '08': 'lost', // connection exceptions
  '57P01': 'lost', // admin_shutdown
  '57P02': 'lost', // crash_shutdown
  '57P03': 'lost', // cannot_connect_now: starting, stopping, in recovery
  '57P05': 'lost', // idle_session_timeout
  '25P03': 'lost', // idle_in_transaction_session_timeout
  '25P04': 'lost', // transaction_timeout
  '57014': 'wait', // query_canceled: by a timeout or an operator
  '55P03': 'wait', // lock_not_available
  '55006': 'wait', // object_in_use
  '53100': 'wait', // disk_full
  '53200': 'wait', // out_of_memory
  '53400': 'wait', // configuration_limit_exceeded
  '58': 'wait', // system errors: files, disks
  '53300': 'reconnect', // too_many_connections
  '25006': 'reconnect', // read_only_sql_transaction: the server was demoted or set read-only
  '25P02': 'reconnect', // in_failed_sql_transaction
  '55000': 'reconnect', // object_not_in_prerequisite_state: recovery is in progress
  '26000': 'reconnect', // invalid_sql_statement_name: a pooler without prepared statements
  '42P05': 'reconnect', // duplicate_prepared_statement: the same
  '0A000': 'reconnect', // feature_not_supported: the table of a cached plan was altered
  '28': 'reconnect', // the password or pg_hba.conf was changed
  '3D000': 'reconnect', // invalid_catalog_name: the database does not exist at the moment
  '57P04': 'reconnect', // database_dropped
  // The database or its grants are being restored: the objects will exist again.
  '3F000': 'reconnect', // invalid_schema_name
  '42P01': 'reconnect', // undefined_table
  '42703': 'reconnect', // undefined_column
  '42883': 'reconnect', // undefined_function
  '42704': 'reconnect', // undefined_object
  '42501': 'reconnect', // insufficient_privilege
  DK002: 'lost', // db/functions/topic.sql: a standby, or a timeline without an epoch
  unconfirmed: 'lost', // Unconfirmed, below
}

/** Committed on the primary, but Postgres stopped waiting for the synchronous standby. If the primary fails, the commit may be lost. */
export class Unconfirmed extends Error {
  readonly code = 'unconfirmed'
  constructor() {
    super('the synchronous standby has not confirmed it')
    this.name = 'Unconfirmed'
  }
}

/** The server is reachable but can't be used: it is a standby, or was the primary before a failover. */
export class WrongServer extends Error {
  readonly code = 'wrong_server'
  constructor(message: string) {
    super(message)
    this.name = 'WrongServer'
  }
}

/** Error codes of Node: system calls, DNS, TLS. */
const ofNetwork =
  /^(E(?!RR_)[A-Z0-9_]+|ERR_(SSL|TLS|SOCKET)_\w+|wrong_server|(CERT|CRL|UNABLE_TO|SELF_SIGNED|DEPTH_ZERO|INVALID_CA|INVALID_PURPOSE|HOSTNAME_MISMATCH|PATH_LENGTH|ERROR_IN)\w*)$/
/** Messages of pg's errors, which have no code. */
const ofDriver = /connection|timeout|timed out|not queryable|Client was closed|\bSSL\b|^SASL|using a pool|use a pool/i

/** Returns the SQLSTATE of an error that Postgres reported; undefined for an error of the connection. */
export const sqlState = (error: unknown): string | undefined =>
  error instanceof pg.DatabaseError ? error.code : undefined

/** Returns a word for an error that any client may see: its code or its kind. */
export const reasonOf = (error: unknown): string => {
  const { code } = error as { code?: unknown }
  if (typeof code === 'string' && /^[A-Za-z0-9_]+$/.test(code)) return code
  if (!(error instanceof Error)) return 'unknown'
  return /time/i.test(error.message)
    ? 'timeout'
    : /connect|not queryable/i.test(error.message)
      ? 'connection'
      : error.name
}

/** Returns undefined if the error is a fault of the request or of the server. */
export const meaningOf = (error: unknown): Meaning | undefined => {
  if (error instanceof Unconfirmed) return meanings[error.code]
  const state = sqlState(error)
  if (state !== undefined) return meanings[state] ?? meanings[state.slice(0, 2)]
  if (!(error instanceof Error) || error instanceof Refusal) return undefined
  const code = 'code' in error ? String(error.code) : ''
  return ofNetwork.test(code) || ofDriver.test(error.message) ? 'lost' : undefined
}

/** Whether an immediate retry of the statement may succeed (serialization failure, deadlock). */
export const isRetryable = (error: unknown): boolean => meaningOf(error) === 'retry'

/** Whether the statement may or may not have taken effect. An unclassified error that is not from Postgres counts as ambiguous, too. */
export const isAmbiguous = (error: unknown): boolean =>
  !(error instanceof Refusal) && (meaningOf(error) ?? (sqlState(error) === undefined ? 'lost' : undefined)) === 'lost'

/** Whether the connection with this error must be discarded. */
export const isSpent = (error: unknown): boolean => isAmbiguous(error) || meaningOf(error) === 'reconnect'

/** db/functions/evidence.sql: the change is refused because an item lacks evidence. Clients receive the message. */
export const noEvidence = 'DK001'
/** db/functions/requests.sql: the request is not open any more, or nobody holds the task. Clients receive the message. */
const notOpen = 'DK004'

/** Returns the refusal that a client receives for a database error; undefined if it is a fault of the server. */
export const toRefusal = (error: unknown): Refusal | undefined => {
  if (error instanceof Refusal) return error
  if (error instanceof Unconfirmed)
    return deny('unavailable', 'the synchronous standby has not confirmed the write: send it again')
  if (meaningOf(error) !== undefined) return deny('unavailable')
  const state = sqlState(error)
  if (state === undefined) return undefined
  const { constraint = '' } = error as pg.DatabaseError
  if (constraint === 'dod_items_override_valid')
    return deny('conflict', 'an override needs an item that names a test and is being completed')
  if (state === '23514') return deny('bad_request', constraint ? `refused by ${constraint}` : (error as Error).message)
  if (state === '23505') return deny('conflict', constraint === 'missions_number' ? 'this number is taken' : undefined)
  if (state === '23503') return deny('not_found')
  if (state === noEvidence) return deny('conflict', (error as Error).message)
  if (state === notOpen) return deny('conflict', (error as Error).message)
  // An exception of an owner's trigger: its text is meant for SQL writers.
  if (state === 'P0001') return deny('bad_request', 'a trigger of the database refused the change')
  if (state === '22003')
    return deny(
      'bad_request',
      'a number is out of range: up to 131072 digits before its decimal point and 16383 after it can be stored',
    )
  // Values that a column can't store: encodings, times, JSON nested too deep.
  if (state.startsWith('22') || state === '54001') return deny('bad_request', 'a value can not be stored')
  return undefined
}
