// A chat's activity between messages: drafts of replies, and typing users. Nothing of it is stored.
import { signal } from '@preact/signals'
import type { ChatSignal, Message } from '../../client/index.ts'

export type Draft = { key: string; citizen: string; text: string }

type ActivitySignal = Extract<ChatSignal, { event: 'draft' | 'aborted' | 'typing' }>

export const makeActivity = () => {
  const drafts = signal<Draft[]>([])
  const typing = signal<string[]>([])
  const drop = (key: string | null): void => {
    if (drafts.peek().some((draft) => draft.key === key))
      drafts.value = drafts.peek().filter((draft) => draft.key !== key)
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
          const { key, citizen, text } = event
          const held = drafts.peek().some((draft) => draft.key === key)
          const draft = { key, citizen, text }
          drafts.value = held ? drafts.peek().map((old) => (old.key === key ? draft : old)) : [...drafts.peek(), draft]
          return
        }
        case 'aborted':
          return drop(event.key)
        case 'typing':
          if (event.on && !typing.peek().includes(event.sub)) typing.value = [...typing.peek(), event.sub]
          else if (!event.on) stopTyping(event.sub)
          return
      }
    },
    /** A stored message ends its draft, and its author's typing. */
    end({ key, author }: Message): void {
      drop(key)
      stopTyping(author)
    },
    clear(): void {
      drafts.value = []
      typing.value = []
    },
  }
}
