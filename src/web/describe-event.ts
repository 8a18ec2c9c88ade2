// Describes an event in words: who, and what. An event holds its row at that time, so changes are derived from the row's previous event,
// if that is known.
import type { DodItem, Mission, TestRun, TimelineEvent } from '../client/index.ts'

import { sumsOf } from './results.ts'
import { budget, capital, shortDay, statuses } from './format.ts'

type RequestEvent = Extract<TimelineEvent, { event: `request.${string}` }>

export type Description = { who: string; what: string; tone?: 'good' | 'bad' }

/** Returns a text as one line of at most 240 characters. Blocks of code become ‹code›. */
const oneLine = (text: string): string =>
  text
    .replace(/^ {0,3}(```+|~~~+)[^]*?(^ {0,3}\1|$(?![^]))/gm, '‹code›')
    .replace(/\s+/g, ' ')
    .trim()
    .slice(0, 240)

const ofMission = (now: Mission, before: Mission | undefined): string => {
  if (!before) return `is ${statuses[now.status]}`
  const changes = [
    before.status !== now.status && `is now ${statuses[now.status]}`,
    before.title !== now.title && `is now called “${now.title}”`,
    before.deadline !== now.deadline && `is now due on ${shortDay(now.deadline)}`,
    before.budget !== now.budget && `has a budget of ${budget(now.budget)}`,
    before.assigned_to !== now.assigned_to && `was assigned to ${now.assigned_to}`,
    before.client !== now.client && `is now for ${now.client}`,
    before.github_url !== now.github_url &&
      (now.github_url ? `has its code at ${now.github_url}` : 'has no repository'),
  ].filter(Boolean)
  return changes.join(', ') || 'was changed'
}

const ofItem = (now: DodItem, before: DodItem | undefined): Description => {
  const name = oneLine(now.text)
  const who = 'Checklist'
  if (before && before.completed === now.completed) {
    const [was, is] = [before.evidence?.status, now.evidence?.status]
    if (was !== is && is !== undefined)
      return {
        who,
        what: `evidence of “${name}”: ${was ? `${was} → ` : ''}${is}`,
        ...(is === 'passed' ? { tone: 'good' } : is === 'failed' ? { tone: 'bad' } : {}),
      }
    return { who, what: `changed: ${name}` }
  }
  if (now.override)
    return { who: now.override.by, what: `ticked without evidence: ${name} (${oneLine(now.override.reason)})` }
  return now.completed ? { who, what: `done: ${name}`, tone: 'good' } : { who, what: `open: ${name}` }
}

const ofRun = (run: TestRun, isNew: boolean): Description => {
  const sums = sumsOf(run.summary).map(
    ({ name, passed, total }) => `${passed}/${total}${name === 'tests' ? '' : ` ${name}`}`,
  )
  const what = run.status === 'running' ? (isNew ? 'a run started' : 'a run was updated') : `a run ${run.status}`
  const tone = run.status === 'running' ? {} : { tone: run.status === 'passed' ? ('good' as const) : ('bad' as const) }
  return { who: 'Tests', what: [what, ...sums].join(', '), ...tone }
}

const answerOf = ({ answer, title }: RequestEvent['data']): string => {
  const said = answer === true ? 'approved' : answer === false ? 'declined' : `answered “${oneLine(String(answer))}” to`
  return `${said}: ${oneLine(title)}`
}

/** `before`: the row in its previous event. */
export const describe = (event: TimelineEvent, before: unknown): Description => {
  switch (event.event) {
    case 'message.created': {
      const { sender, author, citizen, message } = event.data
      const who = sender === 'citizen' ? capital(citizen) : (author ?? 'User')
      return { who: sender === 'citizen' ? who : `${who} → ${capital(citizen)}`, what: oneLine(message) }
    }
    case 'message.redacted':
      return {
        who: event.data.by,
        what: `redacted message ${event.data.seq}${event.data.reason === null ? '' : `: ${oneLine(event.data.reason)}`}`,
      }
    case 'chat.cleared':
      return { who: event.data.by ?? 'SQL', what: `cleared the chat with ${capital(event.data.citizen)}`, tone: 'bad' }
    case 'mission.updated':
      return { who: 'Mission', what: ofMission(event.data, before as Mission | undefined) }
    case 'mission.deleted':
      return { who: 'Mission', what: 'was deleted', tone: 'bad' }
    case 'dod_item.created':
      return { who: 'Checklist', what: `new: ${oneLine(event.data.text)}` }
    case 'dod_item.deleted':
      return { who: 'Checklist', what: `removed: ${oneLine(event.data.text)}` }
    case 'dod_item.updated':
      return ofItem(event.data, before as DodItem | undefined)
    case 'test_run.created':
    case 'test_run.updated':
      return ofRun(event.data, event.event === 'test_run.created')
    case 'request.created':
      return { who: capital(event.data.citizen), what: `asks: ${oneLine(event.data.title)}` }
    case 'request.answered':
      return { who: event.data.answered_by ?? 'SQL', what: answerOf(event.data) }
    case 'request.expired':
    case 'request.withdrawn':
      return {
        who: capital(event.data.citizen),
        what: `${event.event === 'request.expired' ? 'got no answer in time' : 'withdrew'}: ${oneLine(event.data.title)}`,
      }
    default:
      return { who: 'Log', what: 'output was added' }
  }
}

/** Describes events in order, each with the row's previous event. */
export const describeAll = (events: readonly TimelineEvent[]): Description[] => {
  const rows = new Map<string, unknown>()
  return events.map((event) => {
    const id = 'id' in event.data ? event.data.id : ''
    const description = describe(event, rows.get(id))
    if (!event.event.startsWith('message')) rows.set(id, event.data)
    return description
  })
}
