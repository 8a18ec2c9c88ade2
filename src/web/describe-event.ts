// What an event says to a reader: who, and what. An event holds its row as it was then: changes are derived from the event before, if
// that is known.
import type { DodItem, Mission, TestRun, TimelineEvent } from '../client/index.ts'
import { sumsOf } from './results.ts'
import { budget, capital, shortDay, statuses } from './format.ts'

export type Happening = { who: string; what: string; tone?: 'good' | 'bad' }

/** On a line; what code says is for its place. */
const one = (text: string): string =>
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
    before.assigned_to !== now.assigned_to && `was given to ${now.assigned_to}`,
    before.client !== now.client && `is now for ${now.client}`,
    before.github_url !== now.github_url &&
      (now.github_url ? `has its code at ${now.github_url}` : 'has no repository'),
  ].filter(Boolean)
  return changes.join(', ') || 'was changed'
}

const ofItem = (now: DodItem, before: DodItem | undefined): Happening => {
  const name = one(now.text)
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
    return { who: now.override.by, what: `ticked without evidence: ${name} (${one(now.override.reason)})` }
  return now.completed ? { who, what: `done: ${name}`, tone: 'good' } : { who, what: `open: ${name}` }
}

const ofRun = (run: TestRun, isNew: boolean): Happening => {
  const sums = sumsOf(run.summary).map(
    ({ name, passed, total }) => `${passed}/${total}${name === 'tests' ? '' : ` ${name}`}`,
  )
  const what = run.status === 'running' ? (isNew ? 'a run begins' : 'a run goes on') : `a run ${run.status}`
  const tone = run.status === 'running' ? {} : { tone: run.status === 'passed' ? ('good' as const) : ('bad' as const) }
  return { who: 'Tests', what: [what, ...sums].join(', '), ...tone }
}

/** `before`: the row as the event before had it. */
export const tell = (event: TimelineEvent, before: unknown): Happening => {
  switch (event.event) {
    case 'message.created': {
      const { sender, author, citizen, message } = event.data
      const who = sender === 'citizen' ? capital(citizen) : (author ?? 'User')
      return { who: sender === 'citizen' ? who : `${who} → ${capital(citizen)}`, what: one(message) }
    }
    case 'chat.cleared':
      return { who: event.data.by ?? 'SQL', what: `cleared the chat with ${capital(event.data.citizen)}`, tone: 'bad' }
    case 'mission.updated':
      return { who: 'Mission', what: ofMission(event.data, before as Mission | undefined) }
    case 'mission.deleted':
      return { who: 'Mission', what: 'was deleted', tone: 'bad' }
    case 'dod_item.created':
      return { who: 'Checklist', what: `new: ${one(event.data.text)}` }
    case 'dod_item.deleted':
      return { who: 'Checklist', what: `removed: ${one(event.data.text)}` }
    case 'dod_item.updated':
      return ofItem(event.data, before as DodItem | undefined)
    case 'test_run.created':
    case 'test_run.updated':
      return ofRun(event.data, event.event === 'test_run.created')
    default:
      return { who: 'Log', what: 'a log grew' }
  }
}

/** All of them, each told from the one before. */
export const tellAll = (events: readonly TimelineEvent[]): Happening[] => {
  const rows = new Map<string, unknown>()
  return events.map((event) => {
    const id = 'id' in event.data ? event.data.id : ''
    const told = tell(event, rows.get(id))
    if (!event.event.startsWith('message')) rows.set(id, event.data)
    return told
  })
}
