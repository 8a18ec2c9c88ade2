// Joins the parts that deliver more than stored events: signals, presence, the list of missions, drafts, questions and citizens' inboxes.
// Each takes its own notifications. None is part of a topic's history.
import { makeDrafts } from './drafts.ts'
import type { Hub } from '../hub/hub.ts'
import { makeInboxes } from '../inbox.ts'
import type { WorkingSocket } from '../inbox-leases.ts'
import { makeList } from './mission-list.ts'
import { makePresence } from './presence.ts'
import { makeQuestionSignals } from '../questions.ts'
import { makeTaskCancels } from '../task-cancels.ts'
import type { Session } from '../connections/session.ts'
import type { Seal } from './seal.ts'
import { makeSignals } from './signals.ts'

export const makeEphemeral = (options: {
  /** this instance's name: its own notifications are ignored */
  origin: string
  seal: Seal
  missions: Pick<Parameters<typeof makeList>[0], 'mark' | 'read' | 'chats'>
  hub: Pick<Hub, 'receivers'>
  notify: (topics: string[], payloads: string[]) => Promise<unknown>
  channels: {
    follow: (topic: string) => Promise<void>
    unfollow: (topic: string) => void
    followAll: () => Promise<void>
    unfollowAll: () => void
    heardSince: (topic: string) => number
  }
  drafts: Parameters<typeof makeDrafts>[0]['store']
  tasks: Parameters<typeof makeInboxes>[0]['store']
  questions: Parameters<typeof makeQuestionSignals>[0]['store']
  claims: Pick<Parameters<typeof makeInboxes>[0]['claims'], 'holds' | 'fitting'>
  limits: Parameters<typeof makeDrafts>[0]['limits'] &
    Parameters<typeof makeInboxes>[0]['claims']['limits'] & {
      presenceLife: number
      pollEvery: number
      renewEvery: number
    }
  /** ms between two records that a citizen's workers are here */
  noteEvery: number
  onError: (error: unknown) => void
}) => {
  const { channels, limits, onError } = options
  const { follow, unfollow, heardSince } = channels
  const signals = makeSignals({ ...options, heardSince })
  const list = makeList({ ...options.missions, onError })
  const presence = makePresence({ ...options, follow, unfollow, heardSince, life: limits.presenceLife })
  const drafts = makeDrafts({ ...options, store: options.drafts, follow, unfollow, heardSince })
  const inboxes = makeInboxes({
    store: options.tasks,
    followAll: channels.followAll,
    unfollowAll: channels.unfollowAll,
    onError,
    pollEvery: limits.pollEvery,
    renewEvery: limits.renewEvery,
    noteEvery: options.noteEvery,
    claims: { ...options.claims, limits },
  })
  const questions = makeQuestionSignals({ store: options.questions, follow, unfollow, onError })
  const cancels = makeTaskCancels({ ...options, heardSince, worker: inboxes.worker, drafts: drafts.writtenBy })
  return {
    signals,
    list,
    presence,
    drafts,
    inboxes,
    questions,
    cancels,
    /** Takes a notification. Returns false if it announces new events, which the tail reads. */
    receive(payload: string): boolean {
      const { receive: isSignal } = signals
      if (isSignal(payload) || list.receive(payload) || drafts.receive(payload) || presence.receive(payload))
        return true
      if (questions.receive(payload) || cancels.receive(payload) || inboxes.receive(payload)) return true
      inboxes.saved(payload.slice(payload.lastIndexOf(' ') + 1))
      return false
    },
    /** This instance has saved messages of a chat. */
    saved(topic: string): void {
      list.saved(topic)
      inboxes.saved(topic)
    },
    /** LISTEN was interrupted: polls, since notifications may have been lost. */
    check(): void {
      inboxes.check()
      presence.check()
      questions.check()
    },
    /** A socket's fresh token has fewer rights. The socket's drafts are saved, so that another writer can continue them. */
    narrowed(session: Session & WorkingSocket): void {
      drafts.gone(session)
      inboxes.narrowed(session)
      for (const topic of session.subscriptions.keys()) presence.changed(topic)
    },
    /** A socket has closed. */
    gone(session: Session & WorkingSocket): void {
      list.leave(session)
      drafts.gone(session)
      inboxes.gone(session)
    },
    async close(): Promise<void> {
      signals.close()
      list.close()
      inboxes.close()
      questions.close()
      await Promise.all([drafts.close(), presence.close()])
    },
  }
}
