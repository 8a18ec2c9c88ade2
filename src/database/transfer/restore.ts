// Restores an export with its original ids, seqs and times, in one transaction. A file is refused if it is incomplete (its last line has the
// count and hash of all others), has unknown kinds of rows, or contains existing missions. Rows are passed to deck.restore as unparsed text.
import { createHash } from 'node:crypto'
import type pg from 'pg'
import { header, readCarried } from '../../protocol/transfer.ts'
import { deny } from '../../protocol/errors.ts'
import { rawTexts } from '../postgres/binary-arrays.ts'
import { sqlState } from '../postgres/errors.ts'
import type { Lines } from './line-reader.ts'

export type Restored = { missions: string[]; rows: Record<string, number> }

// Rows and bytes per statement, so that each takes only some milliseconds.
const most = { rows: 1000, bytes: 4 * 1024 * 1024 }

/** Converts an error of Postgres to one for the operator. */
const refused = (error: unknown): unknown => {
  const state = sqlState(error)
  const { message, constraint, table, detail } = error as pg.DatabaseError
  if (state === 'DK101') return deny('conflict', `${message}; nothing was changed`)
  if (state === 'DK102') return deny('bad_request', `${message}; nothing was changed`)
  if (state === '23505')
    return deny('conflict', `${table} has such a row already: ${detail ?? constraint}; nothing was changed`)
  if (state?.startsWith('23') || state?.startsWith('22'))
    return deny('bad_request', `a row of the file is refused: ${message}; nothing was changed`)
  return error
}

export const restore = async (
  client: pg.Client,
  lines: Lines,
  { by, onProgress, signal }: { by: string; onProgress: (bytes: number) => void; signal: AbortSignal },
): Promise<Restored> => {
  const damaged = (why: string): Error => deny('bad_request', `${why}; nothing was changed`)
  const hash = createHash('sha256')
  const found: Restored = { missions: [], rows: {} }
  let read = 0
  let ended = false
  let kind = ''
  let batch: Buffer[] = []
  let size = 0

  const flush = async (): Promise<void> => {
    if (batch.length === 0) return
    const values = [kind, rawTexts(batch)]
    await client.query({ name: 'restore', text: 'select deck.restore($1, $2::text[])', values })
    found.rows[kind] = (found.rows[kind] ?? 0) + batch.length
    batch = []
    size = 0
  }
  const take = async (line: Buffer | undefined): Promise<void> => {
    read++
    if (ended) throw damaged(`line ${read} follows the end`)
    const carried = line && readCarried(line)
    if (!line || !carried) throw damaged(`line ${read} is not of an export`)
    if (read === 1) {
      if (line.toString() !== header) throw damaged('the file is of a newer version')
    } else if (carried.kind === 'end') {
      ended = true
      const { lines, sha256 } = toEnd(line)
      if (lines !== read - 1 || sha256 !== hash.digest('hex')) throw damaged('the file was changed on the way')
      return
    } else if (!carried.row) throw damaged(`line ${read} is not of an export`)
    else {
      if (carried.kind !== kind || batch.length >= most.rows || size >= most.bytes) await flush()
      kind = carried.kind
      batch.push(carried.row)
      size += carried.row.length
      if (kind === 'missions') found.missions.push((JSON.parse(carried.row.toString()) as { id: string }).id)
    }
    hash.update(line).update('\n')
  }

  await client.query('set statement_timeout = 0; set idle_in_transaction_session_timeout = 0; set lock_timeout = 10000')
  await client.query('begin isolation level read committed')
  try {
    for await (const { lines: some, bytes } of lines) {
      for (const line of some) await take(line)
      signal.throwIfAborted()
      onProgress(bytes)
    }
    if (!ended) throw damaged('the file is cut off: its last line is missing')
    await flush()
    await client.query('select deck.restored($1::uuid[], $2)', [found.missions, by])
    await client.query('commit')
    return found
  } catch (error) {
    await client.query('rollback').catch(() => {})
    throw refused(error)
  }
}

const toEnd = (line: Buffer): { lines?: number; sha256?: string } => {
  try {
    return JSON.parse(line.toString()) as { lines?: number; sha256?: string }
  } catch {
    return {}
  }
}
