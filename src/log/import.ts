// Messages of any program into chats, by batches that are numbered under the heads and live on the sockets like any other's.
// A chat's lines are saved in their order, by one of two connections at a time. Each line has an id that is always the same: what
// has been saved before is seen again and not saved twice, so an import that was cut off anywhere, or is run again, goes on by itself.
// Nothing of a batch is saved if a line of it is bad (or, with `skip`, all but the bad lines). Doesn't parse lines: protocol/carry does.
import { createHash } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import type { Imported } from '../protocol/carry.ts'
import { deny, Refusal } from '../protocol/errors.ts'
import { integers, texts, timestamps, uuids } from './arrays.ts'
import { isRetryable, sqlState } from './database.ts'

/** Rows and bytes of a batch: as long as it holds a chat's head, some 40 ms, whoever writes there waits. */
const most = { rows: 2000, bytes: 2 * 1024 * 1024 }

export type Bad = { line: number; why: string }
export type Tally = { saved: number; seen: number; bad: number }
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
  seen: 'it is there already',
  cleared: 'its key was used before the chat was cleared',
  taken: 'its id is that of a message in another chat',
  gone: 'no such mission',
}

/**
 * An id that is always the same for the same name: a UUID of version 8, which begins with the line's time or, without one, its
 * number, so that ids of an import follow one another and the index of ids grows at its end.
 */
export const stableId = (name: (string | Buffer)[], order: number): string => {
  const hash = createHash('sha256')
  for (const part of name) hash.update(part).update('\0')
  const bytes = hash.digest()
  bytes.writeUIntBE(order, 0, 6)
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x80
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80
  const hex = bytes.toString('hex', 0, 16)
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

const since1970 = 946_684_800_000n

export const makeImport = (
  clients: pg.ClientBase[],
  { name, skip, onBad }: { name: string; skip: boolean; onBad: (bad: Bad) => void },
) => {
  const tally: Tally = { saved: 0, seen: 0, bad: 0 }
  const lanes = clients.map((client): Lane => ({ client, rows: [], bytes: 0, known: new Set(), running: undefined }))
  const laneOf = new Map<string, Lane>()
  const missions = new Map<string, string | undefined>()

  /** The id of a mission as a line names it. */
  const resolve = async (ref: Imported['mission']): Promise<string | undefined> => {
    const [where, value] = 'id' in ref ? ['id', ref.id] : ['number', String(ref.number)]
    if (!missions.has(value)) {
      const [lane] = lanes
      // Not while a batch is on its way there.
      await lane?.running
      const found = await lane?.client.query<{ id: string }>(`select id from missions where ${where} = $1`, [value])
      missions.set(value, found?.rows[0]?.id)
    }
    return missions.get(value)
  }

  const refuse = (line: number, why: string): void => {
    if (!skip) throw deny('bad_request', `line ${line}: ${why}`)
    tally.bad++
    onBad({ line, why })
  }

  const idOf = async (from: Imported, topic: string, mission: string, line: number, text: Buffer): Promise<string> => {
    const ms = from.time === null ? -1 : Number(from.time / 1000n + since1970)
    const order = ms >= 0 ? ms : line
    if (from.id === undefined) return stableId([name, topic, String(line), text], order)
    // A line keeps its id in the chat that it names; put elsewhere, it is another message.
    const own = from.own.mission && (await resolve(from.own.mission))
    return own === mission && from.own.citizen === from.citizen ? from.id : stableId([topic, from.id], order)
  }

  /** One call, a transaction of its own. */
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
    ]
    const { rows: found } = await client.query<{ others: string | null }>({
      name: 'import',
      text: `select others from deck.import_messages($1::text[], $2::integer[], $3::uuid[], $4::text[], $5::text[], $6::text[],
        $7::text[], $8::text[], $9::timestamp[], $10)`,
      values,
    })
    return JSON.parse(found[0]?.others ?? '[]') as Other[]
  }

  /** Saves rows, all or none of them. Who holds a head for long is waited for. */
  const attempt = async (lane: Lane, rows: Row[]): Promise<Other[]> => {
    for (let tries = 1; ; tries++) {
      try {
        return await call(lane, rows, !skip)
      } catch (error) {
        // Another's id or key that was not to be seen a moment ago is to be seen now.
        const again = isRetryable(error) || ['55P03', '23505'].includes(sqlState(error) ?? '')
        if (!again || tries >= 10) throw error
        await delay(Math.random() * 100 * tries)
      }
    }
  }

  /** The first of these rows that Postgres refuses, found by halves; nothing is saved. */
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
        if (state === 'DK003') return refuse(rows[Number(detail) - 1]?.line ?? 0, reasons[message as Other['why']])
        if (error instanceof Refusal || !/^2[23]/.test(state)) throw error
        const bad = await findBad(lane, rows)
        if (!bad) throw error
        refuse(bad.line, message)
        rows = rows.filter((row) => row !== bad)
      }
    }
  }

  /** Sends what the lane holds, once its batch before is done. */
  const flush = async (lane: Lane): Promise<void> => {
    await lane.running
    if (lane.rows.length === 0) return
    const { rows } = lane
    Object.assign(lane, { rows: [], bytes: 0, known: new Set() })
    lane.running = save(lane, rows)
    // Who waits for it next hears of it.
    lane.running.catch(() => {})
  }

  return {
    tally,
    refuse,
    /** Takes a message; waits while there is too much on its way. */
    async add(from: Imported, line: number, text: Buffer): Promise<void> {
      const mission = await resolve(from.mission)
      if (mission === undefined) return refuse(line, 'no such mission')
      const topic = `missions/${mission}/chat/${from.citizen}`
      let lane = laneOf.get(topic)
      if (!lane) {
        lane = lanes[laneOf.size % lanes.length]
        if (!lane) return
        laneOf.set(topic, lane)
      }
      const id = await idOf(from, topic, mission, line, text)
      const { sender, author, message, code_blocks, key, time, citizen } = from
      // Twice in a batch: the first one counts.
      const keyed = key === null ? id : `${topic}\n${key}\n${author ?? ''}`
      if (lane.known.has(id) || lane.known.has(keyed)) return void tally.seen++
      lane.known.add(id).add(keyed)
      lane.rows.push({ line, topic, citizen, id, sender, author, message, code_blocks, key, time })
      lane.bytes += text.length
      if (lane.rows.length >= most.rows || lane.bytes >= most.bytes) await flush(lane)
    },
    /** Saves what is left. */
    async end(): Promise<void> {
      for (const lane of lanes) await flush(lane)
      for (const lane of lanes) await lane.running
    },
    /** Waits for what is on its way, and lets go what is not. */
    async stop(): Promise<void> {
      await Promise.allSettled(lanes.map(async ({ running }) => running))
    },
  }
}
