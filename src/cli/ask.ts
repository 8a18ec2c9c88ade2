// deck ask: sends a question, shows the reply as it is written, and ends once it is stored.
// Nothing in a message says what it answers: the reply is the one that is seen to begin after the question or, if none is
// written before our eyes, the citizen's next message; replies that were under way before are others'.
import type { ChatEvent, ChatSignal } from '../client/events.ts'
import { deny, Refusal } from '../protocol/errors.ts'
import type { Message } from '../protocol/rows.ts'
import { plain, type Io } from './output.ts'
import { withDeck, type RemoteOptions } from './server-connection.ts'
import { makeReplyView } from './reply-printer.ts'
import { textOf } from './say.ts'
import { writeMessage } from './markdown-printer.ts'

export type AskOptions = RemoteOptions & { timeout: number; key?: string }

/** Finds the reply among the chat's events and prints it; calls `found` with it. */
const makeFinder = (io: Io, found: (reply: Message) => void) => {
  const view = makeReplyView(io)
  const others = new Set<string>()
  let ours: string | undefined
  let asked: number | undefined
  /** what came after the question was sent, until it is known which seq it has */
  let meanwhile: (ChatEvent | ChatSignal)[] | undefined

  const draft = (event: Extract<ChatSignal, { event: 'draft' }>): void => {
    if (others.has(event.key)) return
    ours ??= event.key
    if (ours !== event.key) return
    const { key, citizen, offset, delta } = event
    if (io.json) io.tell('', { event: 'draft', key, citizen, offset, delta })
    else if (io.live) view.grow(event)
  }
  const aborted = (event: Extract<ChatSignal, { event: 'aborted' }>): void => {
    if (ours !== event.key) return
    ours = undefined
    if (io.json) io.tell('', event)
    else view.aborted(event.key)
  }
  const created = (event: Extract<ChatEvent, { event: 'message.created' }>, after: number): void => {
    const { sender, seq, key } = event.data
    if (sender !== 'citizen' || seq <= after) return
    if (ours !== undefined ? key !== ours : key !== null && others.has(key)) return
    if (io.json) io.tell('', event)
    else if (!io.live) io.write(`${plain(event.data.message)}\n`)
    else if (!view.stored(event.data)) writeMessage(io, event.data)
    found(event.data)
  }
  const take = (event: ChatEvent | ChatSignal): void => {
    if (meanwhile) meanwhile.push(event)
    else if (event.event === 'draft' && asked === undefined) others.add(event.key)
    else if (event.event === 'draft') draft(event)
    else if (event.event === 'aborted') aborted(event)
    else if (event.event === 'message.created' && asked !== undefined) created(event, asked)
  }
  return {
    take,
    /** The question is about to be sent: what is being written already is no answer to it. */
    asking: (): void => void (meanwhile = []),
    asked(seq: number): void {
      const held = meanwhile ?? []
      meanwhile = undefined
      asked = seq
      held.forEach(take)
    },
  }
}

export const ask = async (mission: string, citizen: string, given: string, options: AskOptions): Promise<void> => {
  const text = await textOf(given)
  await withDeck(options, async ({ deck, io, signal }) => {
    const chat = deck.chat(mission, citizen)
    const end = new AbortController()
    const feed = chat.follow({ signals: true, signal: AbortSignal.any([signal, end.signal]) })
    const finder = makeFinder(io, () => end.abort())
    await feed.ready
    const reading = (async (): Promise<void> => {
      for await (const event of feed) finder.take(event)
    })()
    reading.catch(() => {})
    // The server sends drafts in progress right after the subscription. After one more round trip, those are known to answer other questions.
    await chat.history({ limit: 1, signal })
    let question: Message | undefined
    const timer = setTimeout(
      () => end.abort(deny('unavailable', `no reply within ${options.timeout} s`)),
      options.timeout * 1000,
    )
    try {
      finder.asking()
      question = await chat.send(text, {
        ...(options.key === undefined ? {} : { key: options.key }),
        signal: AbortSignal.any([signal, end.signal]),
      })
      if (io.json) io.tell('', { event: 'message.created', seq: question.seq, data: question })
      else io.note(`#${question.seq} is stored`)
      finder.asked(question.seq)
      await reading
    } finally {
      clearTimeout(timer)
    }
    // Ended by the reply, by the one who asked, or because it took too long.
    const { reason } = end.signal as { reason: unknown }
    if (reason instanceof Refusal)
      throw deny(
        'unavailable',
        `${reason.detail}; the question is stored: mission-deck tail ${mission} ${citizen} --after ${question.seq}`,
      )
  })
}
