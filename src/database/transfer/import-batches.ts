// Imports messages of other programs into chats, in batches. The messages get new seqs and reach subscribers like all others. There are two
// connections; each chat uses one of them, so that its lines are saved in order.
//
// A line's id is derived from the line. So messages that were saved before are recognized, and an interrupted import can be run again.
//
// If a line is bad, nothing of its batch is saved; with `skip`, all but the bad lines are. protocol/transfer parses the lines.
import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import type { Imported } from '../../protocol/transfer.ts'
import { Refusal } from '../../protocol/errors.ts'
import { integers, nullableUuids, texts, timestamps, uuids } from '../postgres/binary-arrays.ts'
import { isRetryable, sqlState } from '../postgres/errors.ts'
import { stableId } from './stable-id.ts'

/** Rows and bytes per batch: it locks a chat's head for about 40 ms, while other writers of the chat wait. */
const most = { rows: 2000, bytes: 2 * 1024 * 1024 }
/** Lines of other chats whose new ids are remembered, so that later lines can answer them. */
const mostMoved = 100_000

export type Bad = { line: number; why: string }
export type Tally = { saved: number; seen: number; bad: number }
/** A bad line that ends the import. */
export class BadLine extends Refusal {
  constructor({ line, why }: Bad) {
    super('bad_request', `line ${line}: ${why}`)
  }
}
type Row = Omit<Imported, 'mission' | 'own' | 'id'> & { line: number; topic: string; id: string }
type Lane = {
  client: pg.ClientBase
  rows: Row[]
  bytes: number
  known: Set<string>
  running: Promise<void> | undefined
}
type Other = { n: number; why: 'seen' | 'cleared' | 'taken' | 'gone' }

const reasons: Record<Other['why'], string> = {
  seen: 'it exists already',
  cleared: 'its key was used before the chat was cleared',
  taken: 'its id is that of a message in another chat',
  gone: 'no such mission',
}

const since1970 = 946_684_800_000n

export const makeImport = (
  clients: pg.ClientBase[],
  { name, skip, onBad }: { name: string; skip: boolean; onBad: (bad: Bad) => void },
  tally: Tally,
) => {
  const lanes = clients.map((client): Lane => ({ client, rows: [], bytes: 0, known: new Set(), running: undefined }))
  const laneOf = new Map<string, Lane>()
  const missions = new Map<string, string | undefined>()
  // The new ids of lines from other chats, by topic and id.
  const moved = new Map<string, string>()

  const nameOf = (ref: Imported['mission']): string => ('id' in ref ? ref.id : String(ref.number))
  /** Looks up the missions that a line names, each only once. */
  const learn = async (refs: (Imported['mission'] | undefined)[]): Promise<void> => {
    const [lane] = lanes
    // The connection is not used while it saves a batch.
    await lane?.running
    for (const ref of refs) {
      if (!ref || missions.has(nameOf(ref))) continue
      const found = await lane?.client.query<{ id: string }>(
        `select id from missions where ${'id' in ref ? 'id' : 'number'} = $1`,
        [nameOf(ref)],
      )
      missions.set(nameOf(ref), found?.rows[0]?.id)
    }
  }
  const missionOf = (ref: Imported['mission'] | undefined): string | undefined => ref && missions.get(nameOf(ref))

  const refuse = (line: number, why: string): void => {
    if (!skip) throw new BadLine({ line, why })
    tally.bad++
    onBad({ line, why })
  }

  const idOf = (from: Imported, topic: string, mission: string, line: number, text: Buffer): string => {
    const ms = from.time === null ? -1 : Number(from.time / 1000n + since1970)
    const order = ms >= 0 ? ms : line
    if (from.id === undefined) return stableId(`${name}\0${topic}\0${line}\0`, text, order)
    // A line keeps its own id only in the chat that it names. In any other chat it is a different message with a derived id.
    if (isAtHome(from, mission)) return from.id
    const id = stableId(`${topic}\0`, Buffer.from(from.id), order)
    if (moved.size >= mostMoved) for (const oldest of moved.keys()) if (moved.delete(oldest)) break
    moved.set(`${topic} ${from.id}`, id)
    return id
  }
  /** Returns whether a line is imported into the chat that it names. */
  const isAtHome = ({ own, citizen }: Imported, mission: string): boolean =>
    missionOf(own.mission) === mission && own.citizen === citizen

  /** Calls deck.import_messages() with a batch. */
  const call = async ({ client }: Lane, rows: Row[], strict: boolean): Promise<Other[]> => {
    const topics = [...new Set(rows.map(({ topic }) => topic))].sort()
    const place = new Map(topics.map((topic, i) => [topic, i + 1]))
    const values = [
      texts(topics),
      integers(rows.map(({ topic }) => place.get(topic) ?? 0)),
      uuids(rows.map(({ id }) => id)),
      texts(rows.map(({ sender }) => sender)),
      texts(rows.map(({ author }) => author)),
      texts(rows.map(({ message }) => message)),
      texts(rows.map(({ code_blocks }) => code_blocks)),
      texts(rows.map(({ key }) => key)),
      timestamps(rows.map(({ time }) => time)),
      strict,
      rows.some(({ in_reply_to }) => in_reply_to !== null)
        ? nullableUuids(rows.map(({ in_reply_to }) => in_reply_to))
        : null,
      texts(rows.map(({ details }) => details)),
    ]
    const { rows: found } = await client.query<{ others: string | null }>({
      name: 'import',
      text: `select others from deck.import_messages($1::text[], $2::integer[], $3::uuid[], $4::text[], $5::text[], $6::text[],
        $7::text[], $8::text[], $9::timestamp[], $10, $11::uuid[], $12::text[])`,
      values,
    })
    return JSON.parse(found[0]?.others ?? '[]') as Other[]
  }

  /** Saves all or none of the rows. Retries while another transaction holds a lock. */
  const attempt = async (lane: Lane, rows: Row[]): Promise<Other[]> => {
    for (let tries = 1; ; tries++) {
      try {
        return await call(lane, rows, !skip)
      } catch (error) {
        // 23505: another transaction has committed the same id or key meanwhile; a retry finds it.
        const again = isRetryable(error) || ['55P03', '23505'].includes(sqlState(error) ?? '')
        if (!again || tries >= 10) throw error
        await delay(Math.random() * 100 * tries)
      }
    }
  }

  /** Returns the first row that Postgres refuses, found by bisection. Saves nothing. */
  const findBad = async (lane: Lane, rows: Row[]): Promise<Row | undefined> => {
    const fails = async (some: Row[]): Promise<boolean> => {
      await lane.client.query('begin')
      try {
        await call(lane, some, false)
        return false
      } catch (error) {
        if (sqlState(error) === undefined) throw error
        return true
      } finally {
        await lane.client.query('rollback')
      }
    }
    let some = rows
    while (some.length > 1) {
      const half = some.slice(0, some.length >> 1)
      some = (await fails(half)) ? half : some.slice(half.length)
    }
    return some[0]
  }

  const save = async (lane: Lane, rows: Row[]): Promise<void> => {
    while (rows.length > 0) {
      try {
        const others = await attempt(lane, rows)
        const seen = others.filter(({ why }) => why === 'seen').length
        tally.seen += seen
        tally.saved += rows.length - others.length
        for (const { n, why } of others) if (why !== 'seen') refuse(rows[n - 1]?.line ?? 0, reasons[why])
        return
      } catch (error) {
        const state = sqlState(error) ?? ''
        const { message, detail } = error as pg.DatabaseError
        if (state === 'DK103') return refuse(rows[Number(detail) - 1]?.line ?? 0, reasons[message as Other['why']])
        if (error instanceof Refusal || !/^2[23]/.test(state)) throw error
        const bad = await findBad(lane, rows)
        if (!bad) throw error
        refuse(bad.line, message)
        rows = rows.filter((row) => row !== bad)
      }
    }
  }

  /** Sends the lane's rows once its previous batch is saved. */
  const flush = async (lane: Lane): Promise<void> => {
    await lane.running
    if (lane.rows.length === 0) return
    const { rows } = lane
    Object.assign(lane, { rows: [], bytes: 0, known: new Set() })
    lane.running = save(lane, rows)
    // The next caller that awaits lane.running receives the error.
    lane.running.catch(() => {})
  }

  /** Adds a message to its lane. Returns a promise if the lane is full and must be flushed first. */
  const put = (from: Imported, line: number, text: Buffer): Promise<void> | void => {
    const mission = missionOf(from.mission)
    if (mission === undefined) return refuse(line, reasons.gone)
    const topic = `missions/${mission}/chat/${from.citizen}`
    let lane = laneOf.get(topic)
    if (!lane) {
      lane = lanes[laneOf.size % lanes.length]
      if (!lane) return
      laneOf.set(topic, lane)
    }
    const id = idOf(from, topic, mission, line, text)
    const { sender, author, message, code_blocks, key, time, citizen, details } = from
    const in_reply_to =
      from.in_reply_to === null || from.id === undefined || isAtHome(from, mission)
        ? from.in_reply_to
        : (moved.get(`${topic} ${from.in_reply_to}`) ?? null)
    // Duplicates within a batch: only the first one is saved.
    const keyed = key === null ? undefined : `${topic}\n${key}\n${author ?? ''}`
    if (lane.known.has(id) || (keyed !== undefined && lane.known.has(keyed))) return void tally.seen++
    lane.known.add(id)
    if (keyed !== undefined) lane.known.add(keyed)
    lane.rows.push({ line, topic, citizen, id, sender, author, message, code_blocks, key, in_reply_to, details, time })
    lane.bytes += text.length
    if (lane.rows.length >= most.rows || lane.bytes >= most.bytes) return flush(lane)
  }

  return {
    /** Counts a bad line, or throws BadLine without `skip`. */
    refuse,
    /** Adds a message. Returns a promise if the caller must wait for a batch or a lookup. */
    add(from: Imported, line: number, text: Buffer): Promise<void> | void {
      const { mission, own } = from
      const known = [mission, own.mission].every((ref) => !ref || missions.has(nameOf(ref)))
      return known ? put(from, line, text) : learn([mission, own.mission]).then(() => put(from, line, text))
    },
    /** Saves the remaining messages. */
    async end(): Promise<void> {
      for (const lane of lanes) await flush(lane)
      for (const lane of lanes) await lane.running
    },
    /** Waits until running batches have ended, with or without success. */
    async settle(): Promise<void> {
      await Promise.allSettled(lanes.map(async ({ running }) => running))
    },
  }
}
