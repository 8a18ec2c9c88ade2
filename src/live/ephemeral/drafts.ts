// Drafts: replies as they are being written. The instance of the writer's socket owns the text; every 40 ms it hands what is new
// to the followers here and, in one statement for all drafts, to the other instances; every 250 ms it saves it. Followers
// elsewhere hold the text too: a slice that does not follow what they have is mended from what was saved.
import { encodeFrame } from '../../protocol/client-frames.ts'
import type { Hub } from '../hub/hub.ts'
import type { Seat } from '../hub/seat.ts'
import { every, longest, makeRelay } from './instance-relay.ts'
import type { Seal } from './seal.ts'
import { deny } from '../../protocol/errors.ts'
import {
  makeDraft,
  makeShelf,
  nameOf,
  type Draft,
  type DraftBounds,
  type DraftWriter,
  type Stored,
} from './draft-registry.ts'
import { makeSlices, type DraftName } from './draft-fanout.ts'

type Delta = DraftName & { type: 'delta'; generation: number; offset: number; upto: number; delta?: string }
type Signal =
  Delta | (DraftName & { type: 'aborted' | 'end'; generation: number }) | (DraftName & { type: 'cancel'; by: string })

/** Begins the hint of a claim, which is sent as it commits: "!instance topic key". */
export const claimMark = '!'
const saveEvery = 250
// ms after which another instance's draft is forgotten, of which nothing more was heard.
const mirrorLife = 90_000
// ms between two looks for what was told and is not saved yet, and how many.
const mendEvery = 100
const mendTries = 40
/** Silent drafts whose length is kept, for each socket: as many as it may write. */
const mostRested = 1000
/** Later than any generation: the draft is a message now, whoever writes it. */
const forGood = Number.MAX_SAFE_INTEGER

export const makeDrafts = (options: {
  /** this instance's name: it does not hear itself */
  origin: string
  seal: Seal
  hub: Pick<Hub, 'receivers'>
  store: {
    generation(name: DraftName): Promise<number>
    save(drafts: readonly Stored[]): Promise<boolean[]>
    load(topic: string): Promise<Stored[]>
    expire(silence: number): Promise<(DraftName & { generation: number })[]>
  }
  heardSince: (topic: string) => number
  notify: (topics: string[], payloads: string[]) => Promise<unknown>
  /** Hears the channel of a topic while one of its drafts is written here. */
  follow: (topic: string) => unknown
  unfollow: (topic: string) => void
  onError: (error: unknown) => void
  limits: DraftBounds & { /** ms until a silent draft is given up */ draftSilence: number }
}) => {
  const { store, onError, limits } = options
  const slices = makeSlices(options.hub)
  const shelf = makeShelf({
    onWritten: ({ topic }, here) => void (here ? options.follow(topic) : options.unfollow(topic)),
    onGone: (draft) => dirty.delete(draft),
    bounds: limits,
  })
  const { find, keep, lose, forget, overtake } = shelf
  // Lengths of silent drafts whose sockets are open. Their text is in the database only.
  const rested = new WeakMap<DraftWriter, Map<string, number>>()
  const dirty = new Set<Draft>()
  let due: Signal[] = []
  let timer: NodeJS.Timeout | undefined
  let closed = false

  const soon = (draft?: Draft): void => {
    if (draft) dirty.add(draft)
    if (!closed) timer ??= setTimeout(() => void flush(), every)
  }
  const signal = (told: Signal): void => {
    due.push(told)
    soon()
  }
  const tell = (draft: Draft, offset: number): void => {
    slices.tell(draft, offset)
    if (draft.behind.size > 0) soon(draft)
  }

  const save = async (list: Draft[]): Promise<void> => {
    if (list.length === 0) return
    const upto = list.map(({ text }) => text.length)
    // Also where it fails: not at every turn again.
    for (const draft of list) draft.savedAt = performance.now()
    const kept = await store.save(list.map(({ topic, key, generation, text }) => ({ topic, key, generation, text })))
    for (const [i, draft] of list.entries()) {
      // Somebody else writes it now.
      if (!kept[i]) overtake(draft)
      draft.saved = upto[i] ?? 0
    }
  }

  /** Hands on what is new of a draft that is written here; -> whether other instances have to read it from what is saved. */
  const handOn = (draft: Draft): boolean => {
    const { topic, key, generation, text, sent: offset } = draft
    if (offset === text.length) return false
    tell(draft, offset)
    draft.sent = text.length
    const delta = text.slice(offset)
    const long = Buffer.byteLength(JSON.stringify(delta)) > longest
    due.push({ type: 'delta', topic, key, generation, offset, upto: text.length, ...(long ? {} : { delta }) })
    return long
  }

  const flush = async (): Promise<void> => {
    const now = performance.now()
    const toSave: Draft[] = []
    for (const draft of dirty) {
      slices.catchUp(draft)
      const long = draft.writer ? handOn(draft) : false
      const unsaved = draft.writer !== undefined && draft.saved < draft.text.length
      if (unsaved && (long || now - draft.savedAt >= saveEvery)) toSave.push(draft)
      if (!unsaved && draft.behind.size === 0) dirty.delete(draft)
    }
    const news = due
    due = []
    await save(toSave).catch(onError)
    await relay.tell(news)
    timer = undefined
    if (dirty.size > 0 || due.length > 0) soon()
  }

  /** Takes over what was saved where it is more than is known. */
  const merge = (stored: Stored): void => {
    const known = find(stored)
    if (known && (known.writer !== undefined || known.generation > stored.generation)) return
    if (known && known.generation === stored.generation && known.text.length >= stored.text.length) return
    const held = known?.text ?? ''
    // Its followers see it when it is saved as a message.
    if (shelf.full(stored.text.length - held.length)) return
    const draft = known ?? makeDraft(stored)
    draft.generation = stored.generation
    keep(draft)
    shelf.write(draft, stored.text)
    tell(draft, stored.text.startsWith(held) ? held.length : 0)
  }

  // What was told and is not there yet: the latest of each draft.
  const mending = new Map<string, Delta>()
  const mend = async (told: Delta): Promise<void> => {
    const name = nameOf(told)
    const underWay = mending.has(name)
    mending.set(name, told)
    if (underWay) return
    for (let tries = 0; tries < mendTries && !closed; tries++) {
      const wanted = mending.get(name) ?? told
      for (const stored of await store.load(told.topic).catch((error: unknown) => (onError(error), []))) merge(stored)
      const draft = find(told)
      if (draft && (draft.generation > wanted.generation || draft.text.length >= wanted.upto)) break
      await new Promise((resolve) => setTimeout(resolve, mendEvery))
    }
    mending.delete(name)
  }

  /** A slice of a draft that is written elsewhere. */
  const takeDelta = (told: Delta): void => {
    const { topic, key, generation, offset, delta } = told
    if (!slices.followed(topic)) return
    if (shelf.full(told.upto - offset)) return
    const name = nameOf(told)
    const known = find(told)
    const held = known?.text ?? ''
    if (delta === undefined || offset > held.length || mending.has(name)) return void mend(told)
    const text = held.slice(0, offset) + delta
    const draft = known ?? makeDraft({ topic, key, generation, text })
    draft.generation = generation
    keep(draft)
    shelf.write(draft, text)
    tell(draft, offset)
  }

  const cancelFrame = ({ topic, key }: DraftName, by: string): string => encodeFrame('cancel', { topic, key, by })

  const relay = makeRelay<Signal>({
    ...options,
    mark: '=',
    onHeard(told) {
      const draft = find(told)
      if (told.type === 'cancel') return void draft?.writer?.push(cancelFrame(told, told.by))
      if (draft && told.generation < draft.generation) return
      const over = told.type === 'end' || told.type === 'aborted'
      if (draft?.writer && told.generation > draft.generation) overtake(draft)
      else if (draft && over && !draft.writer) forget(draft)
      if (told.type === 'delta') takeDelta(told)
      else if (told.type === 'aborted') slices.aborted(told)
    },
  })

  /** Somebody has claimed a draft, or says so: what is stored decides whose it is. */
  const hearClaim = (payload: string): boolean => {
    const [, from, topic, key] = /^!(\S+) (\S+) ([^]+)$/.exec(payload) ?? []
    if (!payload.startsWith(claimMark)) return false
    const draft = topic !== undefined && key !== undefined && from !== options.origin ? find({ topic, key }) : undefined
    if (draft?.writer)
      store.generation(draft).then((generation) => {
        if (draft.writer && generation > draft.generation) overtake(draft)
      }, onError)
    return true
  }

  // The chats that are followed here and whose stored drafts were asked for.
  const looked = new Map<string, { over: boolean; done: Promise<void> }>()
  const lookAt = (topic: string) => {
    const look = {
      over: false,
      done: store.load(topic).then(
        (stored) => {
          if (looked.get(topic) === look) stored.forEach(merge)
          look.over = true
        },
        (error: unknown) => {
          onError(error)
          // The next to come asks again.
          if (looked.get(topic) === look) looked.delete(topic)
        },
      ),
    }
    looked.set(topic, look)
    return look
  }
  /** What its writer has not handed on (again) yet, comes with the next slice. */
  const begun = (topic: string): Draft[] => shelf.of(topic).filter((draft) => !draft.writer || draft.sent > 0)

  /** Drops the text from memory. If the writer resumes, it is loaded from the database. */
  const rest = (draft: Draft): void => {
    const { writer, text } = draft
    forget(draft)
    if (!writer) return
    const own = rested.get(writer) ?? new Map<string, number>()
    if (own.size >= mostRested) own.clear()
    rested.set(writer, own.set(nameOf(draft), text.length))
  }

  const expire = async (): Promise<void> => {
    for (const gone of await store.expire(limits.draftSilence)) {
      const draft = find(gone)
      // The writer resumed meanwhile: followers get the text from the start.
      if (draft?.writer && (draft.generation !== gone.generation || draft.saved < draft.text.length)) draft.sent = 0
      else if (draft) rest(draft)
      slices.aborted(gone)
      signal({ type: 'aborted', ...gone })
    }
    const old = performance.now() - mirrorLife
    for (const draft of shelf.all()) if (!draft.writer && draft.touched < old) forget(draft)
  }

  return {
    /** The draft that a socket writes; undefined if it has none under this name, or no more. */
    of(writer: DraftWriter, name: DraftName): Draft | undefined {
      const draft = find(name)
      return draft?.writer === writer ? draft : undefined
    },

    wasOvertaken: shelf.wasOvertaken,

    /** Returns, once, the length of a socket's silent draft whose text is no longer in memory. */
    wokenAt(writer: DraftWriter, name: DraftName): number | undefined {
      const own = rested.get(writer)
      const units = own?.get(nameOf(name))
      own?.delete(nameOf(name))
      return units
    },

    /** Throws if `units` more UTF-16 code units exceed a limit: `rate_limited` for the subject's, `unavailable` for the instance's. */
    makeRoom(writer: DraftWriter, units: number): void {
      const full = shelf.full(units, writer)
      if (full === 'subject')
        throw deny('rate_limited', 'this subject is writing too many drafts at a time', { retry_after: 1 })
      if (full) throw deny('unavailable', 'this server holds too many drafts: retry later', { retry_after: 1 })
    },

    /** How many drafts a socket writes. */
    count: shelf.count,

    /** Saves what is known here, so that a claim finds it. */
    async settle(name: DraftName): Promise<void> {
      const draft = find(name)
      if (draft?.writer && draft.saved < draft.text.length) await save([draft])
    },

    /** A socket has claimed a draft; nobody else writes it from here on. */
    open(writer: DraftWriter, claimed: Stored): Draft {
      const { text } = claimed
      const former = find(claimed)
      const held = former?.text ?? ''
      if (former?.writer === writer) forget(former)
      else if (former) overtake(former)
      const draft = makeDraft(claimed, writer)
      keep(draft)
      // What was stored may be more than the followers here were told.
      const known = text.startsWith(held) ? held.length : 0
      if (known < text.length) tell(draft, known)
      return draft
    },

    append(draft: Draft, delta: string): void {
      shelf.write(draft, draft.text + delta)
      soon(draft)
    },

    /** Saves it as it stands; false if somebody else has claimed it meanwhile. */
    async hold(draft: Draft): Promise<boolean> {
      await save([draft])
      return draft.writer !== undefined
    },

    /** It is dropped by its writer. */
    abort(draft: Draft): void {
      const { topic, key, generation } = draft
      forget(draft)
      slices.aborted(draft)
      signal({ type: 'aborted', topic, key, generation })
    },

    /** It is a message now. */
    end(name: DraftName): void {
      const draft = find(name)
      if (draft && draft.sent < draft.text.length) tell(draft, draft.sent)
      if (draft) forget(draft)
      signal({ type: 'end', topic: name.topic, key: name.key, generation: forGood })
    },

    /** Asks the writer to stop, wherever it is. */
    cancel(name: DraftName, by: string): void {
      const writer = find(name)?.writer
      if (writer) writer.push(cancelFrame(name, by))
      else signal({ type: 'cancel', ...name, by })
    },

    /** Whether it is written here. */
    isWritten: (name: DraftName): boolean => find(name)?.writer !== undefined,

    /** Gives a new follower of a chat what is there so far: what is stored is asked once, what comes after it is heard. */
    join(seat: Seat): void {
      const { topic } = seat
      const known = looked.get(topic)
      if (known?.over) return slices.begin(seat, begun(topic))
      const look = known ?? lookAt(topic)
      void slices.prime(
        seat,
        look.done.then(() => begun(topic)),
      )
    },

    /** Nobody here follows the topic any more. */
    left(topic: string): void {
      looked.delete(topic)
      for (const draft of shelf.of(topic)) if (!draft.writer) forget(draft)
    },

    /** A socket is gone: what it wrote is saved, for whoever goes on. */
    gone(writer: DraftWriter): void {
      const own = shelf.by(writer)
      for (const draft of own) {
        handOn(draft)
        lose(draft)
      }
      if (own.length === 0) return
      void save(own).catch(onError)
      soon()
    },

    hear: (payload: string): boolean => hearClaim(payload) || relay.hear(payload),

    expire: (): void => void expire().catch(onError),

    /** Saves what is written here. */
    async close(): Promise<void> {
      closed = true
      clearTimeout(timer)
      await save(shelf.written()).catch(onError)
    },
  }
}
export type Drafts = ReturnType<typeof makeDrafts>
