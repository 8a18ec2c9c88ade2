// A page of a chat's stream, whether it is read in full (database/read/chat-stream) or by filters (database/search/chat-search).
import type { Message, MissionRights } from '../../protocol/rows.ts'

export type ReplayPage = {
  /** undefined: the mission does not exist, or was deleted meanwhile */
  mission: MissionRights | undefined
  messages: Message[]
  head: number
  epoch: string
  /** Reads the page that follows; undefined on the last page. */
  next?: () => Promise<ReplayPage>
}
