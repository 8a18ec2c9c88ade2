// A mission's events in one order, (at, topic, seq), up to the horizon: no event is added below it. So pages never change, except that rows
// may be deleted later. A page costs its rows and a few index lookups per topic, however long the history is. Each topic's index is searched
// for the page's start, and the topics are merged from there.
//
// Rows, epoch and the mission's assignee come from one statement (database/read/read-mission).
import type pg from 'pg'
import { deny } from '../../protocol/errors.ts'
import type { MissionRights } from '../../protocol/rows.ts'
import { encodeItem, isBefore, type Place } from '../../protocol/timeline.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import { makeBatched } from '../postgres/batcher.ts'
import { answerBytes, rowsToRead } from '../bounds.ts'
import { toMessage, type MessageColumns } from '../postgres/columns.ts'
import { readMission } from './read-mission.ts'
import { timelinePage } from './timeline.sql.ts'
import { makeTurns } from '../postgres/mutex.ts'

/** The events between two places; `logs`: including events of run logs. */
export type Span = { after: Place; before: Place; newestFirst: boolean; logs: boolean }

/** An event: its place, name and frame (JSON text). */
export type Item = { place: Place; event: string; text: string }

export type TimelinePage = {
  /** undefined: the mission does not exist, or was deleted */
  mission: MissionRights | undefined
  epoch: string
  items: Item[]
  /** whether more events may follow */
  more: boolean
}

/** Returns the part of a span that follows these items. */
export const rest = (span: Span, items: readonly Item[]): Span => {
  const place = items.at(-1)?.place
  return place ? { ...span, [span.newestFirst ? 'before' : 'after']: place } : span
}

/** `main` is for reads; `patience`: ms until reading the horizon rejects with `unavailable`. */
export const makeTimeline = (main: pg.Pool, patience: number) => {
  let settled = { epoch: '', at: '' }
  const readHorizon = makeBatched(
    async (asked: null[]) => {
      const { rows } = await main.query<{ at: string; epoch: string }>({
        name: 'horizon',
        text: `select to_char(deck.horizon(), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at, deck.epoch() as epoch`,
      })
      return asked.map(() => rows[0] as { at: string; epoch: string })
    },
    { max: 10_000, patience },
  )

  /** Reads the beginning of a span with one statement: up to `limit` events, fewer if events are large or topics are many. */
  const read = async (ref: MissionRef, span: Span, limit: number, bytes: number): Promise<TimelinePage> => {
    const { newestFirst, logs } = span
    const [start, end] = newestFirst ? [span.before, span.after] : [span.after, span.before]
    const direction = newestFirst ? 'desc' : 'asc'
    type Columns = MessageColumns & { at: string; topic: string; event: string | null; data: string | null }
    type Row = { beyond: boolean | null; known: number | null } & (Columns | { seq: null })
    const { mission, epoch, rows } = await readMission<Row>(main, {
      ref,
      name: `timeline-${direction}`,
      text: timelinePage[direction],
      values: [start.at, start.topic, start.seq, end.at, end.topic, end.seq, logs, limit, bytes],
    })
    const items = rows.flatMap((row): Item[] => {
      if (row.seq === null || !mission) return []
      const { at, topic, seq } = row
      const event = row.event ?? 'message.created'
      const data = row.data ?? JSON.stringify(toMessage(row, mission.id, topic.slice(51)))
      return [{ place: { at, topic: topic.slice(45), seq }, event, text: encodeItem(topic, seq, event, data, at) }]
    })
    const { beyond, known } = rows[0] ?? {}
    return { mission, epoch, items, more: (beyond ?? false) || (known ?? 0) > items.length }
  }

  const turns = makeTurns()

  return {
    /** Returns the horizon, below which no event is added. It never decreases within an epoch. */
    async horizon(): Promise<string> {
      const found = await readHorizon(null)
      if (found.epoch !== settled.epoch || isBefore(settled.at, found.at)) settled = found
      return settled.at
    },

    /** Returns a page of up to `limit` events and answerBytes bytes. `see` is called with each statement's result, and may throw. */
    async page(ref: MissionRef, span: Span, limit: number, see: (found: TimelinePage) => void): Promise<TimelinePage> {
      const items: Item[] = []
      let bytes = 0
      let epoch = ''
      for (;;) {
        const count = rowsToRead(limit - items.length, { rows: items.length, bytes })
        const found = await read(ref, rest(span, items), count, answerBytes - bytes)
        see(found)
        if (items.length > 0 && found.epoch !== epoch)
          throw deny('unavailable', 'the database was restored or replaced while reading: start again')
        epoch = found.epoch
        for (const item of found.items) {
          const size = Buffer.byteLength(item.text) + 1
          if (items.length > 0 && bytes + size > answerBytes) return { ...found, more: true, items }
          bytes += size
          items.push(item)
        }
        if (!found.more || items.length >= limit || bytes >= answerBytes) return { ...found, items }
      }
    },

    /** Reads the beginning of a span for streams. All streams together use one connection at a time; users take turns. */
    part: (ref: MissionRef, span: Span, limit: number, bytes: number, sub: string): Promise<TimelinePage> =>
      turns(sub)(() => read(ref, span, limit, bytes)),
  }
}
export type Timeline = ReturnType<typeof makeTimeline>
