// Drafts: replies as they are being written. The instance of the writer's socket owns the text; every 40 ms it hands what is new
// to the followers here and, in one statement for all drafts, to the other instances; every 250 ms it saves it. Followers
// elsewhere hold the text too: a slice that does not follow what they have is mended from what was saved.
// A slow socket gets no queue of slices but a longer one, once it has room.
import { encodeFrame, toChunk } from '../protocol/frames.ts'
import { topicParts } from '../protocol/topics.ts'
import type { Hub, Receiver } from './hub.ts'

export type Writer = { push(frame: string): boolean }
type Name = { topic: string; key: string }
type Stored = Name & { generation: number; text: string }

export type Draft = Stored & {
  /** the socket that writes it, if it is one of this instance's and none has taken it over */
  writer: Writer | undefined
  /** up to where it was handed on, and saved */
  sent: number
  saved: number
  savedAt: number
  /** when it last grew (performance.now) */
  touched: number
  /** slow followers, and from where they lack it */
  behind: Map<Receiver, number>
}

type Signal = Name & { generation: number } & (
    | { type: 'delta'; offset: number; upto: number; delta?: string }
    | { type: 'aborted' | 'end' }
    | { type: 'claim' }
    | { type: 'cancel'; by: string }
  )

const every = 40
const saveEvery = 250
// Bytes of a slice that goes by notification; a longer one is read from what was saved.
const longest = 7000
const mirrorLife = 90_000

const nameOf = ({ topic, key }: Name): string => `${topic}\n${key}`

export const makeDrafts = (options: {
  origin: string
  hub: Pick<Hub, 'receivers'>
  store: {
    save(drafts: readonly Stored[]): Promise<boolean[]>
    load(topic: string): Promise<Stored[]>
    expire(silence: number): Promise<(Name & { generation: number })[]>
  }
  notify: (topics: string[], payloads: string[]) => Promise<unknown>
  /** Hears the channel of a topic while one of its drafts is written here. */
  follow: (topic: string) => unknown
  unfollow: (topic: string) => void
  onError: (error: unknown) => void
  /** ms until a silent draft is given up */
  silence: number
}) => {
  const drafts = new Map<string, Draft>()
  const written = new Map<Writer, Set<Draft>>()
  const dirty = new Set<Draft>()
  // Seats that have not got the text so far yet.
  const unprimed = new Map<string, Set<Receiver>>()
  let due: Signal[] = []
  let timer: NodeJS.Timeout | undefined
  let flushing = false

  const frameOf = ({ topic, key }: Name, members: Record<string, unknown>): Buffer =>
    toChunk([encodeFrame('delta', { topic, key, citizen: topicParts(topic).citizen, ...members })]).bytes

  const tellAll = (name: Name, members: Record<string, unknown>): void => {
    const bytes = frameOf(name, members)
    for (const receiver of options.hub.receivers(name.topic))
      if (!unprimed.get(name.topic)?.has(receiver)) receiver.send(bytes, 1)
  }

  /** Hands the text from `offset` on to the followers here. */
  const tell = (draft: Draft, offset: number): void => {
    const bytes = frameOf(draft, { offset, delta: draft.text.slice(offset) })
    for (const receiver of options.hub.receivers(draft.topic)) {
      if (unprimed.get(draft.topic)?.has(receiver)) continue
      const from = Math.min(draft.behind.get(receiver) ?? offset, offset)
      const own = from === offset ? bytes : frameOf(draft, { offset: from, delta: draft.text.slice(from) })
      if (receiver.fits(own.length)) {
        draft.behind.delete(receiver)
        receiver.send(own, 1)
      } else draft.behind.set(receiver, from)
    }
    if (draft.behind.size > 0) soon(draft)
  }

  const soon = (draft?: Draft): void => {
    if (draft) dirty.add(draft)
    timer ??= setTimeout(() => void flush(), every)
  }

  const lose = (draft: Draft): void => {
    const { writer } = draft
    if (!writer) return
    const own = written.get(writer)
    if (own?.delete(draft) && own.size === 0) written.delete(writer)
    draft.writer = undefined
    options.unfollow(draft.topic)
  }
  const forget = (draft: Draft): void => {
    lose(draft)
    dirty.delete(draft)
    if (drafts.get(nameOf(draft)) === draft) drafts.delete(nameOf(draft))
  }

  const save = async (list: Draft[]): Promise<void> => {
    if (list.length === 0) return
    const upto = list.map(({ text }) => text.length)
    // Also where it fails: not at every turn again.
    for (const draft of list) draft.savedAt = performance.now()
    const kept = await options.store.save(
      list.map(({ topic, key, generation, text }) => ({ topic, key, generation, text })),
    )
    for (const [i, draft] of list.entries()) {
      // Somebody else writes it now.
      if (!kept[i]) forget(draft)
      draft.saved = upto[i] ?? 0
    }
  }

  const flush = async (): Promise<void> => {
    if (flushing) return
    flushing = true
    const now = performance.now()
    const news: Signal[] = due
    const toSave: Draft[] = []
    due = []
    for (const draft of dirty) {
      if (!draft.writer) {
        if (draft.behind.size > 0) tell(draft, draft.text.length)
        if (draft.behind.size === 0) dirty.delete(draft)
        continue
      }
      const { topic, key, generation, text, sent } = draft
      const delta = text.slice(sent)
      const long = delta.length > 0 && Buffer.byteLength(JSON.stringify(delta)) > longest
      if (delta.length > 0 || draft.behind.size > 0) tell(draft, sent)
      if (delta.length > 0)
        news.push({
          type: 'delta',
          topic,
          key,
          generation,
          offset: sent,
          upto: text.length,
          ...(long ? {} : { delta }),
        })
      draft.sent = text.length
      if (draft.saved < text.length && (long || now - draft.savedAt >= saveEvery)) toSave.push(draft)
      if (draft.saved === text.length && draft.behind.size === 0) dirty.delete(draft)
    }
    try {
      await save(toSave)
      if (news.length > 0)
        await options.notify(
          news.map(({ topic }) => topic),
          news.map((signal) => `=${options.origin} ${JSON.stringify(signal)}`),
        )
    } catch (error) {
      options.onError(error)
    }
    flushing = false
    timer = undefined
    if (dirty.size > 0 || due.length > 0) soon()
  }

  /** Takes over what was saved where it is more than is known. */
  const merge = (stored: Stored): Draft => {
    const known = drafts.get(nameOf(stored))
    if (known && (known.writer !== undefined || known.generation > stored.generation)) return known
    if (known && known.generation === stored.generation && known.text.length >= stored.text.length) return known
    const { length } = stored.text
    const draft: Draft = known ?? {
      ...stored,
      text: '',
      writer: undefined,
      sent: 0,
      saved: 0,
      savedAt: 0,
      touched: 0,
      behind: new Map(),
    }
    const from = stored.text.startsWith(draft.text) ? draft.text.length : 0
    Object.assign(draft, { text: stored.text, generation: stored.generation, sent: length, saved: length })
    draft.touched = performance.now()
    drafts.set(nameOf(stored), draft)
    if (from < length) tell(draft, from)
    return draft
  }

  // What was hinted at and is not there yet.
  const mending = new Map<string, Signal & { type: 'delta' }>()
  const mend = async (signal: Signal & { type: 'delta' }): Promise<void> => {
    const name = nameOf(signal)
    const under = mending.get(name)
    mending.set(name, signal)
    if (under) return
    for (let tries = 0; tries < 40; tries++) {
      const wanted = mending.get(name) ?? signal
      for (const stored of await options.store.load(signal.topic).catch(() => [])) merge(stored)
      const draft = drafts.get(name)
      if (draft && (draft.generation > wanted.generation || draft.text.length >= wanted.upto)) break
      // It is saved within 250 ms.
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    mending.delete(name)
  }

  const take = (signal: Signal): void => {
    const draft = drafts.get(nameOf(signal))
    if (signal.type === 'cancel') return void draft?.writer?.push(cancelFrame(signal, signal.by))
    if (draft && signal.generation < draft.generation) return
    if (draft?.writer && signal.generation > draft.generation) forget(draft)
    if (signal.type === 'claim') return
    if (signal.type !== 'delta') {
      if (draft && !draft.writer) forget(draft)
      if (signal.type === 'aborted') tellAll(signal, { aborted: true })
      return
    }
    const { topic, key, generation, offset, delta } = signal
    if ([...options.hub.receivers(topic)].length === 0) return
    const known = drafts.get(nameOf(signal))
    if (delta === undefined || offset > (known?.text.length ?? 0) || mending.has(nameOf(signal)))
      return void mend(signal)
    const text = (known?.text.slice(0, offset) ?? '') + delta
    const mirror: Draft = known ?? {
      topic,
      key,
      generation,
      text,
      writer: undefined,
      sent: 0,
      saved: 0,
      savedAt: 0,
      touched: 0,
      behind: new Map(),
    }
    Object.assign(mirror, { text, generation, touched: performance.now() })
    drafts.set(nameOf(signal), mirror)
    tell(mirror, offset)
  }

  const cancelFrame = ({ topic, key }: Name, by: string): string => encodeFrame('cancel', { topic, key, by })

  const signal = (told: Signal): void => {
    due.push(told)
    soon()
  }

  const expire = async (): Promise<void> => {
    for (const gone of await options.store.expire(options.silence)) {
      const draft = drafts.get(nameOf(gone))
      // Its writer may go on: then everybody gets the text from the start.
      if (draft?.writer) draft.sent = 0
      else if (draft) forget(draft)
      tellAll(gone, { aborted: true })
      signal({ type: 'aborted', ...gone })
    }
    const old = performance.now() - mirrorLife
    for (const draft of drafts.values()) if (!draft.writer && draft.touched < old) forget(draft)
  }

  return {
    /** The draft that a socket writes; undefined if it has none under this name, or no more. */
    of(writer: Writer, name: Name): Draft | undefined {
      const draft = drafts.get(nameOf(name))
      return draft?.writer === writer ? draft : undefined
    },

    /** How many drafts a socket writes. */
    count: (writer: Writer): number => written.get(writer)?.size ?? 0,

    /** Saves what is known here, so that a claim finds it. */
    async settle(name: Name): Promise<void> {
      const draft = drafts.get(nameOf(name))
      if (draft?.writer && draft.saved < draft.text.length) await save([draft])
    },

    /** A socket has claimed a draft; nobody else writes it from here on. */
    open(writer: Writer, claimed: Stored): Draft {
      const { topic, text } = claimed
      const former = drafts.get(nameOf(claimed))
      const held = former?.text ?? ''
      if (former) forget(former)
      const draft: Draft = {
        ...claimed,
        writer,
        sent: text.length,
        saved: text.length,
        // Saved with its first slice: until then nobody else knows where it stands.
        savedAt: 0,
        touched: performance.now(),
        behind: new Map(),
      }
      drafts.set(nameOf(claimed), draft)
      // What was stored may be more than the followers here were told.
      const known = text.startsWith(held) ? held.length : 0
      if (known < text.length) tell(draft, known)
      written.set(writer, (written.get(writer) ?? new Set()).add(draft))
      options.follow(topic)
      signal({ type: 'claim', topic, key: claimed.key, generation: claimed.generation })
      return draft
    },

    /** Saves it as it stands; false if somebody else has claimed it meanwhile. */
    async hold(draft: Draft): Promise<boolean> {
      await save([draft])
      return draft.writer !== undefined
    },

    append(draft: Draft, delta: string): void {
      draft.text += delta
      draft.touched = performance.now()
      soon(draft)
    },

    /** It is over: saved as a message, or dropped. */
    end(draft: Draft, aborted: boolean): void {
      const { topic, key, generation } = draft
      if (!aborted && draft.sent < draft.text.length) tell(draft, draft.sent)
      forget(draft)
      if (aborted) tellAll(draft, { aborted: true })
      signal({ type: aborted ? 'aborted' : 'end', topic, key, generation })
    },

    /** Asks the writer to stop, wherever it is. */
    cancel(name: Name, by: string): void {
      const writer = drafts.get(nameOf(name))?.writer
      if (writer) writer.push(cancelFrame(name, by))
      else signal({ type: 'cancel', ...name, generation: 0, by })
    },

    /** Whether it is written here. */
    isWritten: (name: Name): boolean => drafts.get(nameOf(name))?.writer !== undefined,

    /** Gives a new follower what is there so far; until then it gets no slices. */
    async join(receiver: Receiver, topic: string): Promise<void> {
      const waiting = unprimed.get(topic) ?? new Set()
      unprimed.set(topic, waiting.add(receiver))
      const asked = performance.now()
      const stored = await options.store.load(topic).catch((error: unknown) => (options.onError(error), []))
      for (const each of stored) merge(each)
      // What is not stored, nor heard of since, has ended.
      for (const draft of drafts.values()) {
        const there = stored.some(({ key }) => key === draft.key)
        if (draft.topic === topic && !draft.writer && !there && draft.touched < asked) forget(draft)
      }
      waiting.delete(receiver)
      if (waiting.size === 0) unprimed.delete(topic)
      if (![...options.hub.receivers(topic)].includes(receiver)) return
      for (const draft of drafts.values()) {
        const { text } = draft
        if (draft.topic === topic && text !== '') receiver.send(frameOf(draft, { offset: 0, delta: text }), 1)
      }
    },

    /** A socket is gone: what it wrote is saved, for whoever goes on. */
    gone(writer: Writer): void {
      for (const draft of [...(written.get(writer) ?? [])]) {
        if (draft.sent < draft.text.length) {
          tell(draft, draft.sent)
          const { topic, key, generation, sent: offset, text } = draft
          signal({ type: 'delta', topic, key, generation, offset, upto: text.length })
          draft.sent = text.length
        }
        void save([draft]).catch(options.onError)
        lose(draft)
      }
    },

    /** Takes a notification: true if it was of a draft. */
    hear(payload: string): boolean {
      if (!payload.startsWith('=')) return false
      const space = payload.indexOf(' ')
      if (payload.slice(1, space) === options.origin) return true
      try {
        take(JSON.parse(payload.slice(space + 1)) as Signal)
      } catch (error) {
        options.onError(error)
      }
      return true
    },

    expire: (): void => void expire().catch(options.onError),

    /** Saves what is written here. */
    async close(): Promise<void> {
      clearTimeout(timer)
      timer = setTimeout(() => {}, 0)
      clearTimeout(timer)
      await save([...drafts.values()].filter(({ writer, saved, text }) => writer && saved < text.length)).catch(
        options.onError,
      )
    },
  }
}
export type Drafts = ReturnType<typeof makeDrafts>
