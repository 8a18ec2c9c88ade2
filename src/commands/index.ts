// The commands of the socket, one for each type of client frame.
import type { Tokens } from '../access/tokens.ts'
import type { Hub } from '../live/hub/hub.ts'
import type { Handlers, Session } from '../live/connections/session.ts'
import type { Drafts } from '../live/ephemeral/drafts.ts'
import type { List } from '../live/ephemeral/mission-list.ts'
import type { Presence } from '../live/ephemeral/presence.ts'
import type { QuestionSignals } from '../live/questions.ts'
import type { Signals } from '../live/ephemeral/signals.ts'
import type { UserRate } from '../live/connections/user-rate.ts'
import type { DraftStore } from '../database/draft-store.ts'
import type { Inboxes } from '../live/inbox.ts'
import type { Marks } from '../database/read/read-markers.ts'
import type { Missions } from '../database/read/mission-cache.ts'
import type { Store } from '../database/read/topics.ts'
import type { Tasks } from '../database/inbox.ts'
import type { Writer } from '../database/write/writer.ts'
import { makeAuth } from './auth.ts'
import { ping } from './ping.ts'
import { makeRead } from './read.ts'
import { makeSend } from './send.ts'
import { makeStream } from './stream.ts'
import { makeSubscribe } from './subscribe.ts'
import { makeTyping } from './typing.ts'
import { makeInbox, makeReplies } from './work.ts'

export const makeCommands = (parts: {
  tokens: Tokens
  hub: Hub
  missions: Missions
  store: Store
  writer: Writer
  marks: Marks
  signals: Signals
  list: List
  drafts: Drafts
  draftStore: DraftStore
  tasks: Tasks
  inboxes: Inboxes
  presence: Presence
  questions: QuestionSignals
  rate: UserRate
  /** Called when a session's fresh token has fewer rights. */
  narrowed: (session: Session) => void
}): Handlers => {
  const replies = makeReplies(parts.writer, parts.tasks, parts.inboxes)
  return {
    ...makeSubscribe(parts),
    send: makeSend(parts.missions, replies, parts.rate),
    ...makeStream(parts.missions, parts.draftStore, parts.drafts, replies, parts.rate),
    read: makeRead(parts.missions, parts.marks, parts.signals),
    typing: makeTyping(parts.missions, parts.signals, parts.inboxes),
    ...makeInbox(parts.tasks, parts.inboxes),
    auth: makeAuth(parts.tokens, parts.hub, parts.narrowed),
    ping,
  }
}
