// mission-deck tail: prints a chat's messages and follows it live until interrupted. It resumes after a reconnect.
import type { ChatEvent, ChatSignal } from '../client/events.ts'
import type { Message } from '../protocol/rows.ts'
import { withDeck, type RemoteOptions } from './server-connection.ts'
import { makeReplyView } from './reply-printer.ts'
import { writeMessage } from './markdown-printer.ts'
import { plain, type Io } from './output.ts'

export type TailOptions = RemoteOptions & { after?: number; lines: number }

/** Messages whose seqs are remembered, for the replies that name them. */
const mostRemembered = 1000

const makeView = (io: Io) => {
  const reply = makeReplyView(io)
  const seqs = new Map<string, number>()
  const remember = ({ id, seq }: Message): void => {
    if (seqs.size >= mostRemembered) for (const oldest of seqs.keys()) if (seqs.delete(oldest)) break
    seqs.set(id, seq)
  }
  return (event: ChatEvent | ChatSignal): void => {
    switch (event.event) {
      case 'draft':
        if (io.live) reply.grow(event)
        return
      case 'aborted':
        if (io.live) reply.aborted(event.key)
        return
      case 'message.created':
        remember(event.data)
        if (reply.stored(event.data)) return
        return writeMessage(io, event.data, seqs.get(event.data.in_reply_to ?? ''))
      case 'message.redacted':
        reply.interrupt()
        return io.write(io.paint('dim', `(message ${event.data.seq} was redacted by ${plain(event.data.by)})\n\n`))
      case 'chat.cleared':
        reply.interrupt()
        return io.write(io.paint('dim', `(cleared by ${event.data.by ?? 'SQL'})\n\n`))
      case 'reset':
        reply.interrupt()
        return io.write(io.paint('dim', '(the database was replaced: starting from the beginning)\n\n'))
      default:
    }
  }
}

export const tail = (mission: string, citizen: string, options: TailOptions): Promise<void> =>
  withDeck(options, async ({ deck, io, signal }) => {
    const chat = deck.chat(mission, citizen)
    const view = makeView(io)
    const show = (event: ChatEvent | ChatSignal): void => {
      if (!io.json) return view(event)
      if ('seq' in event && event.event !== 'read') io.print('', event)
    }
    let { after } = options
    let epoch: string | undefined
    if (after === undefined && options.lines > 0) {
      const page = await chat.history({ limit: options.lines, signal })
      for (const data of page.messages) show({ event: 'message.created', seq: data.seq, data })
      after = page.last_seq
      epoch = page.epoch
    }
    for await (const event of chat.follow({ after, epoch, signals: true, signal })) show(event)
  })
