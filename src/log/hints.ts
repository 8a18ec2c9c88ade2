// How instances hear of one another: by NOTIFY, or, where HINTS_URL is set, by NATS. The writer's batches then notify nobody
// (deck.hints = off, db/migrations/021_scale.sql), and tell it here once they are committed. What SQL and the database itself tell
// still comes by NOTIFY, so LISTEN stays; and while NATS is away, all goes by NOTIFY.
import { channelOf } from './channels.ts'
import type { Bus } from './bus.ts'

/** ms in which hints that NATS did not take are put together: one statement for all of them. */
const every = 10

export const makeHints = (options: {
  /** undefined: all by NOTIFY */
  bus: Bus | undefined
  /** this instance's name in hints */
  origin: string
  listener: { listen(channel: string): Promise<void>; unlisten(channel: string): void }
  /** one statement that notifies on the channels of the topics */
  notify: (topics: string[], payloads: string[]) => Promise<unknown>
  onError: (error: unknown) => void
}) => {
  const { bus, listener, notify, onError } = options
  let due = new Map<string, number>()
  let timer: NodeJS.Timeout | undefined

  const flush = (): void => {
    timer = undefined
    const topics = [...due.keys()]
    const payloads = [...due].map(([topic, seq]) => `${options.origin} ${seq} ${topic}`)
    due = new Map()
    notify(topics, payloads).catch(onError)
  }

  return {
    async listen(channel: string): Promise<void> {
      await Promise.all([listener.listen(channel), bus?.listen(channel)])
    },
    unlisten(channel: string): void {
      listener.unlisten(channel)
      bus?.unlisten(channel)
    },

    /** A batch of this instance has taken a topic up to a seq. */
    saved(topic: string, seq: number): void {
      if (!bus || bus.tell(channelOf(topic), `${options.origin} ${seq} ${topic}`)) return
      due.set(topic, Math.max(seq, due.get(topic) ?? 0))
      timer ??= setTimeout(flush, every)
    },

    /** Tells what is no hint to the instances that follow the topics. */
    async signal(topics: string[], payloads: string[]): Promise<void> {
      if (!bus) return void (await notify(topics, payloads))
      const left = topics.map((topic, i) => !bus.tell(channelOf(topic), payloads[i] ?? ''))
      if (!left.includes(true)) return
      await notify(
        topics.filter((_, i) => left[i]),
        payloads.filter((_, i) => left[i]),
      )
    },

    close: (): void => clearTimeout(timer),
  }
}
export type Hints = ReturnType<typeof makeHints>
