// Compares two test runs: tests that failed, were fixed, were added, were removed or got slower from `a` to `b`, tests that are flaky up to
// `b`, and messages between the two. Postgres extracts names, statuses and durations, so that results are not loaded into this process.
// Rights are checked before the comparison, and in its snapshot.
import type pg from 'pg'
import { between, bytesCompared, type RunDiff } from '../../protocol/run-diff.ts'
import { deny } from '../../protocol/errors.ts'
import type { Message, MissionRights } from '../../protocol/rows.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import { answerBytes } from '../bounds.ts'
import * as sql from './run-diff.sql.ts'
import { readMission } from './read-mission.ts'
import type { Search } from '../search/chat-search.ts'

/** Compares times as text, without the Z: a time with fewer fractional digits is then a prefix of a later one, and sorts first. */
const isBefore = (x: string, y: string): boolean => x.slice(0, -1) < y.slice(0, -1)
const newestFirst = ({ message: x }: Sized, { message: y }: Sized): number => {
  if (x.created_at !== y.created_at) return isBefore(x.created_at, y.created_at) ? 1 : -1
  return x.citizen === y.citizen ? y.seq - x.seq : x.citizen < y.citizen ? 1 : -1
}
type Sized = { message: Message; bytes: number }
const sized = (message: Message): Sized => ({ message, bytes: Buffer.byteLength(JSON.stringify(message)) })

/** Returns how many of the first messages fit into the limits of number and bytes. */
const fitting = (found: Sized[], most: number): number => {
  let bytes = 0
  for (const [i, one] of found.entries()) if (i === between.messages || (bytes += one.bytes + 1) > most) return i
  return found.length
}

/** The lists fill the response in this order. */
const lists = ['newly_failing', 'still_failing', 'fixed', 'added', 'removed', 'slower'] as const

/** If the comparison has more than `most` bytes, removes the last elements of its lists and sets `cut`. */
const shorten = (json: string, most: number): string => {
  if (Buffer.byteLength(json) <= most) return json
  const diff = JSON.parse(json) as Omit<RunDiff, 'flaky' | 'between'>
  let left = most - 1024
  for (const name of lists) {
    const all: { name: string }[] = diff[name]
    const end = all.findIndex((one) => (left -= Buffer.byteLength(JSON.stringify(one)) + 1) < 0)
    if (end >= 0) all.length = end
  }
  return JSON.stringify({ ...diff, cut: true })
}

/** `main` is for reads. */
export const makeDiff = (main: pg.Pool, search: Search) => {
  /** Returns the newest messages of all chats in a span of time, oldest first. */
  const said = async (
    mission: MissionRights,
    span: { since: string; until: string },
    most: number,
    how: { sub: string; allow(mission: MissionRights | undefined): void; gone(): boolean },
  ) => {
    const { rows } = await main.query<{ citizen: string }>({
      name: 'diff-chats',
      text: sql.chats,
      values: [mission.id],
    })
    let newest: Sized[] = []
    let has_more = false
    // Only one chat's messages and the newest so far are in memory.
    for (const { citizen } of rows) {
      const page = await search.page({ id: mission.id }, citizen, { ...span, limit: between.messages }, how)
      const found = [...newest, ...page.messages.map(sized)].sort(newestFirst)
      newest = found.slice(0, fitting(found, most))
      has_more ||= page.has_more || newest.length < found.length
    }
    return { ...span, messages: newest.reverse().map(({ message }) => message), has_more }
  }

  /** Returns a RunDiff as JSON. `allow` throws if the user may not read the mission. A run of a different mission is `not_found`. */
  return async (
    ref: MissionRef,
    { a, b }: { a: string; b: string },
    how: { sub: string; allow(mission: MissionRights | undefined): asserts mission; gone(): boolean },
  ): Promise<string> => {
    const { mission, rows } = await readMission<{ a_at: string | null; b_at: string | null }>(main, {
      ref,
      name: 'diff-runs',
      text: sql.times,
      values: [a, b],
    })
    how.allow(mission)
    const { a_at, b_at } = rows[0] ?? {}
    if (!a_at || !b_at) throw deny('not_found', 'no such test run')
    const [since, until] = isBefore(a_at, b_at) ? [a_at, b_at] : [b_at, a_at]
    const comparison = await readMission<{ json: string | null }>(main, {
      ref: { id: mission.id },
      name: 'diff',
      text: sql.compare,
      values: [a, b],
    })
    how.allow(comparison.mission)
    const { json } = comparison.rows[0] ?? {}
    if (!json) throw deny('not_found', 'no such test run')
    const compared = shorten(json, bytesCompared)
    const flaky = await main.query<{ json: string }>({ name: 'diff-flaky', text: sql.flips, values: [mission.id, b] })
    const shown = `${compared.slice(0, -1)},"flaky":${flaky.rows[0]?.json}`
    const messages = await said(mission, { since, until }, answerBytes - Buffer.byteLength(shown), how)
    return `${shown},"between":${JSON.stringify(messages)}}`
  }
}
export type Diff = ReturnType<typeof makeDiff>
