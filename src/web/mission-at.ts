// A mission as it was at a time, and what one more event makes of it: this is how a replay moves. Knows neither server nor window.
import {
  DeckError,
  type DodItem,
  type Message,
  type Mission,
  type TestRun,
  type TimelineEvent,
} from '../client/index.ts'
import { fromMs, toMs } from './timestamps.ts'
import { fullTime } from './format.ts'

export type MissionAt = {
  mission: Mission
  items: DodItem[]
  /** the newest run that there was */
  run: TestRun | undefined
  /** whose chat is on show */
  citizen: string
  /** its newest messages */
  messages: Message[]
  /** whether it had older ones */
  older: boolean
}

/** Messages of the chat that are kept during a replay. */
const mostMessages = 100

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
    case 'message.created': {
      const last = state.messages.at(-1)
      if (event.data.citizen !== state.citizen || (last && last.seq >= event.seq)) return state
      const messages = [...state.messages, event.data]
      return { ...state, messages: messages.slice(-mostMessages), older: state.older || messages.length > mostMessages }
    }
    case 'chat.cleared':
      return event.data.citizen === state.citizen ? { ...state, messages: [], older: false } : state
    default:
      return state
  }
}

/** Why a time can't be shown; `from`: where what is known of the mission begins, in ms. */
export const whyNot = (error: unknown, at: string | undefined, from: number): string => {
  if (!(error instanceof DeckError)) return String(error)
  if (error.code !== 'not_found' || at === undefined) return `This can't be shown: ${error.detail}.`
  if (from > 0 && toMs(at) < from)
    return `Too early: what is known of this mission begins on ${fullTime(fromMs(from))}.`
  return `Nothing is known of this time: ${error.detail}. The mission was not there yet, or what it was is not kept any more.`
}
