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

export type Then = {
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

/** Messages that are kept of the chat while it is played. */
const mostThen = 100

const isNewer = (run: TestRun, than: TestRun | undefined): boolean =>
  !than ||
  run.id === than.id ||
  run.created_at > than.created_at ||
  (run.created_at === than.created_at && run.id > than.id)

export const apply = (then: Then, event: TimelineEvent): Then => {
  switch (event.event) {
    case 'mission.updated':
      return { ...then, mission: event.data }
    case 'dod_item.created':
    case 'dod_item.updated': {
      const { data } = event
      const known = then.items.some(({ id }) => id === data.id)
      const items = known ? then.items.map((item) => (item.id === data.id ? data : item)) : [...then.items, data]
      return { ...then, items }
    }
    case 'dod_item.deleted':
      return { ...then, items: then.items.filter(({ id }) => id !== event.data.id) }
    case 'test_run.created':
    case 'test_run.updated':
      return isNewer(event.data, then.run) ? { ...then, run: event.data } : then
    case 'message.created': {
      const last = then.messages.at(-1)
      if (event.data.citizen !== then.citizen || (last && last.seq >= event.seq)) return then
      const messages = [...then.messages, event.data]
      return { ...then, messages: messages.slice(-mostThen), older: then.older || messages.length > mostThen }
    }
    case 'chat.cleared':
      return event.data.citizen === then.citizen ? { ...then, messages: [], older: false } : then
    default:
      return then
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
