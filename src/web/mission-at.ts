// A mission's state at a time, and how an event changes it: a replay applies events one by one. Uses neither the server nor the DOM.
import { redact } from './redact.ts'
import {
  DeckError,
  type DodItem,
  type Message,
  type Mission,
  type Request,
  type TestRun,
  type TimelineEvent,
} from '../client/index.ts'
import { fromMs, toMs } from './timestamps.ts'
import { fullTime } from './format.ts'

export type MissionAt = {
  mission: Mission
  items: DodItem[]
  /** the newest run at the time */
  run: TestRun | undefined
  /** the newest requests, oldest first */
  requests: Request[]
  /** the citizen whose chat is shown */
  citizen: string
  /** the chat's newest messages */
  messages: Message[]
  /** whether the chat has older messages */
  older: boolean
}

/** Messages, and requests, that are kept during a replay. */
const [mostMessages, mostRequests] = [100, 200]

const isNewer = (run: TestRun, than: TestRun | undefined): boolean =>
  !than ||
  run.id === than.id ||
  run.created_at > than.created_at ||
  (run.created_at === than.created_at && run.id > than.id)

export const apply = (state: MissionAt, event: TimelineEvent): MissionAt => {
  switch (event.event) {
    case 'mission.updated':
      return { ...state, mission: event.data }
    case 'dod_item.created':
    case 'dod_item.updated': {
      const { data } = event
      const known = state.items.some(({ id }) => id === data.id)
      const items = known ? state.items.map((item) => (item.id === data.id ? data : item)) : [...state.items, data]
      return { ...state, items }
    }
    case 'dod_item.deleted':
      return { ...state, items: state.items.filter(({ id }) => id !== event.data.id) }
    case 'test_run.created':
    case 'test_run.updated':
      return isNewer(event.data, state.run) ? { ...state, run: event.data } : state
    case 'request.created':
    case 'request.answered':
    case 'request.expired':
    case 'request.withdrawn': {
      const { data } = event
      const known = state.requests.some(({ id }) => id === data.id)
      const requests = known
        ? state.requests.map((request) => (request.id === data.id ? data : request))
        : [...state.requests, data].slice(-mostRequests)
      return { ...state, requests }
    }
    case 'message.created': {
      const last = state.messages.at(-1)
      if (event.data.citizen !== state.citizen || (last && last.seq >= event.seq)) return state
      const messages = [...state.messages, event.data]
      return { ...state, messages: messages.slice(-mostMessages), older: state.older || messages.length > mostMessages }
    }
    case 'message.redacted': {
      const { data } = event
      return { ...state, messages: state.messages.map((one) => (one.id === data.id ? redact(data)(one) : one)) }
    }
    case 'chat.cleared':
      return event.data.citizen === state.citizen ? { ...state, messages: [], older: false } : state
    default:
      return state
  }
}

/** Explains why a time can't be shown. `from`: the start of the mission's history, in ms. */
export const whyNot = (error: unknown, at: string | undefined, from: number): string => {
  if (!(error instanceof DeckError)) return String(error)
  if (error.code !== 'not_found' || at === undefined) return `This can't be shown: ${error.detail}.`
  if (from > 0 && toMs(at) < from) return `Too early: the history of this mission begins on ${fullTime(fromMs(from))}.`
  return `No data for this time: ${error.detail}. The mission did not exist yet, or its history is no longer kept.`
}
