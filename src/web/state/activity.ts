// A chat's activity between messages: drafts of replies, and typing users. Nothing of it is stored.
import { signal } from '@preact/signals'
import type { Activity, ChatSignal, Message } from '../../client/index.ts'

/** `stopped`: its writer has abandoned it. */
export type Draft = { key: string; citizen: string; text: string; steps: readonly Activity[]; stopped?: true }

/** The same for all drafts without steps, so that their list is not rendered again. */
const noSteps: readonly Activity[] = []

type ActivitySignal = Extract<ChatSignal, { event: 'draft' | 'aborted' | 'typing' }>

export const makeActivity = () => {
  const drafts = signal<Draft[]>([])
  const typing = signal<string[]>([])
  const drop = (key: string | null): void => {
    if (drafts.peek().some((draft) => draft.key === key))
      drafts.value = drafts.peek().filter((draft) => draft.key !== key)
  }
  const dropStopped = (): void => {
    if (drafts.peek().some(({ stopped }) => stopped)) drafts.value = drafts.peek().filter(({ stopped }) => !stopped)
  }
  const stopTyping = (who: string | null): void => {
    if (who !== null && typing.peek().includes(who)) typing.value = typing.peek().filter((one) => one !== who)
  }
  return {
    drafts,
    typing,
    take(event: ActivitySignal): void {
      switch (event.event) {
        case 'draft': {
          const { key, citizen, text, activity: steps = noSteps } = event
          const draft = { key, citizen, text, steps }
          const open = drafts.peek().filter((old) => old.key === key || !old.stopped)
          drafts.value = open.some((old) => old.key === key)
            ? open.map((old) => (old.key === key ? draft : old))
            : [...open, draft]
          return
        }
        case 'aborted':
          drafts.value = drafts
            .peek()
            .filter(({ key, stopped }) => key === event.key || !stopped)
            .map((draft) => (draft.key === event.key ? { ...draft, stopped: true as const } : draft))
          return
        case 'typing':
          if (event.on && !typing.peek().includes(event.sub)) typing.value = [...typing.peek(), event.sub]
          else if (!event.on) stopTyping(event.sub)
          return
      }
    },
    /** The work on a question has gone on: an abandoned draft is over. */
    dropStopped,
    /** A stored message ends its draft, and its author's typing. */
    end({ key, author, sender }: Message): void {
      drop(key)
      if (sender === 'citizen') dropStopped()
      stopTyping(author)
    },
    clear(): void {
      drafts.value = []
      typing.value = []
    },
  }
}
