// mission-deck ask: sends a question, shows the reply while it is written, and ends once the reply is stored.
// A message does not name the question that it answers. The reply is the first draft that begins after the question.
// If no draft begins, it is the citizen's next message. Drafts that were in progress before answer other questions.
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
  const otherKeys = new Set<string>()
  let replyKey: string | undefined
  let questionSeq: number | undefined
  /** events that arrive after the question is sent and before its seq is known */
  let meanwhile: (ChatEvent | ChatSignal)[] | undefined

  const draft = (event: Extract<ChatSignal, { event: 'draft' }>): void => {
    if (otherKeys.has(event.key)) return
    replyKey ??= event.key
    if (replyKey !== event.key) return
    const { key, citizen, offset, delta } = event
    if (io.json) io.print('', { event: 'draft', key, citizen, offset, delta })
    else if (io.live) view.grow(event)
  }
  const aborted = (event: Extract<ChatSignal, { event: 'aborted' }>): void => {
    if (replyKey !== event.key) return
    replyKey = undefined
    if (io.json) io.print('', event)
    else view.aborted(event.key)
  }
  const created = (event: Extract<ChatEvent, { event: 'message.created' }>, after: number): void => {
    const { sender, seq, key } = event.data
    if (sender !== 'citizen' || seq <= after) return
    if (replyKey !== undefined ? key !== replyKey : key !== null && otherKeys.has(key)) return
    if (io.json) io.print('', event)
    else if (!io.live) io.write(`${plain(event.data.message)}\n`)
    else if (!view.stored(event.data)) writeMessage(io, event.data)
    found(event.data)
  }
  const take = (event: ChatEvent | ChatSignal): void => {
    if (meanwhile) meanwhile.push(event)
    else if (event.event === 'draft' && questionSeq === undefined) otherKeys.add(event.key)
    else if (event.event === 'draft') draft(event)
    else if (event.event === 'aborted') aborted(event)
    else if (event.event === 'message.created' && questionSeq !== undefined) created(event, questionSeq)
  }
  return {
    take,
    /** Call right before the question is sent: drafts seen so far do not answer it. */
    asking: (): void => void (meanwhile = []),
    asked(seq: number): void {
      const held = meanwhile ?? []
      meanwhile = undefined
      questionSeq = seq
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
      if (io.json) io.print('', { event: 'message.created', seq: question.seq, data: question })
      else io.note(`#${question.seq} is stored`)
      finder.asked(question.seq)
      await reading
    } finally {
      clearTimeout(timer)
    }
    // The feed has ended: by the reply, by Ctrl-C or by the timeout.
    const { reason } = end.signal as { reason: unknown }
    if (reason instanceof Refusal)
      throw deny(
        'unavailable',
        `${reason.detail}; the question is stored: mission-deck tail ${mission} ${citizen} --after ${question.seq}`,
      )
  })
}
