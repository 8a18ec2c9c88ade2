// A chat's code blocks, newest first: older pages are read until there are enough; new blocks are added live.
import { signal } from '@preact/signals'
import type { Deck, Message } from '../../client/index.ts'
import { makeFailure, persist } from './online.ts'

const enough = 20
const perRequest = 200

export const makeCode = (deck: Deck, mission: string, citizen: string, language: string) => {
  const ending = new AbortController()
  const { signal: ended } = ending
  const chat = deck.chat(mission, citizen)
  const messages = signal<Message[]>([])
  const more = signal(false)
  const busy = signal(true)
  const failure = makeFailure(deck, ended)
  let before: number | undefined
  /** counts the times that the chat was cleared or read anew: a page that was requested before is dropped */
  let round = 0

  const load = async (): Promise<void> => {
    const mine = round
    busy.value = true
    failure.clear()
    try {
      const until = messages.value.length + enough
      do {
        const where = { ...(before === undefined ? {} : { before }), ...(language ? { language } : {}) }
        const page = await persist(deck, ended, (signal) => chat.history({ limit: perRequest, ...where, signal }))
        if (mine !== round) return
        before = page.messages[0]?.seq
        // An empty page has no seq to continue from. A request without one would return the newest page.
        more.value = page.has_more && before !== undefined
        add(page.messages)
      } while (more.value && messages.value.length < until)
    } catch (error) {
      if (mine === round) failure.set(error)
    } finally {
      if (mine === round) busy.value = false
    }
  }
  const shows = ({ code_blocks }: Message): boolean =>
    (code_blocks ?? []).some((block) => !language || block.language?.toLowerCase() === language.toLowerCase())
  const add = (given: Message[]): void => {
    const held = new Map(messages.value.map((message) => [message.seq, message]))
    for (const message of given) if (shows(message)) held.set(message.seq, message)
    messages.value = [...held.values()].sort((a, b) => b.seq - a.seq)
  }
  const follow = async (): Promise<void> => {
    const feed = chat.follow({ signal: ended })
    void feed.ready.then(load).catch(() => {})
    for await (const event of feed) {
      if (event.event === 'message.created') add([event.data])
      else {
        round++
        messages.value = []
        before = undefined
        more.value = busy.value = false
        if (event.event === 'reset') await load()
      }
    }
  }
  follow().catch(() => {})
  return { messages, more, busy, failure: failure.text, load, close: (): void => ending.abort() }
}
export type Code = ReturnType<typeof makeCode>
