// Drafts: replies while they are being written. The instance of the writer (a socket, or a claim over HTTP) owns the text, publishes and saves it
// (draft-publisher.ts). The other instances hold copies for their followers (draft-mirror.ts). A claim in the database decides
// which socket writes a draft (draft-claims.ts).
import type { Activity } from '../../protocol/activity.ts'
import { encodeFrame } from '../../protocol/encode.ts'
import { deny } from '../../protocol/errors.ts'
import type { Hub } from '../hub/hub.ts'
import { sendChanges } from './draft-changes.ts'
import { makeDraftCatchUp } from './draft-catch-up.ts'
import { makeClaims } from './draft-claims.ts'
import { makeSlices, type DraftName } from './draft-fanout.ts'
import { makeMirror } from './draft-mirror.ts'
import { makePublisher, type Signal } from './draft-publisher.ts'
import {
  isUnsaved,
  makeDraft,
  unitsOfStep,
  makeRegistry,
  type Draft,
  type DraftBounds,
  type DraftWriter,
  type Stored,
} from './draft-registry.ts'
import { makeRelay } from './instance-relay.ts'
import type { Seal } from './seal.ts'
import { makeSilentDrafts } from './silent-drafts.ts'

/** Higher than any generation: the draft has become a message, or was dropped. */
const lastGeneration = Number.MAX_SAFE_INTEGER

const cancelFrame = ({ topic, key }: DraftName, by: string): string => encodeFrame('cancel', { topic, key, by })

export const makeDrafts = (options: {
  /** this instance's name: its own notifications are ignored */
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
  /** Listens on the topic's channel while a socket here writes one of its drafts. */
  follow: (topic: string) => unknown
  unfollow: (topic: string) => void
  onError: (error: unknown) => void
  limits: DraftBounds & { /** ms after which a draft that does not grow is aborted */ draftSilence: number }
}) => {
  const { origin, store, onError, limits } = options
  const slices = makeSlices(options.hub)
  const dirty = new Set<Draft>()
  const registry = makeRegistry({
    onWritten: ({ topic }, here) => void (here ? options.follow(topic) : options.unfollow(topic)),
    onGone: (draft) => dirty.delete(draft),
    bounds: limits,
  })
  const { find, keep, lose, forget, overtake } = registry

  const relay = makeRelay<Signal>({
    ...options,
    mark: '=',
    onReceived(received) {
      const draft = find(received)
      if (received.type === 'cancel') return void draft?.writer?.push(cancelFrame(received, received.by))
      if (draft && received.generation < draft.generation) return
      const over = received.type === 'end' || received.type === 'aborted'
      if (draft?.writer && received.generation > draft.generation) overtake(draft)
      else if (draft && over && !draft.writer) forget(draft)
      if (received.type === 'delta') mirror.take(received)
      else if (received.type === 'steps') mirror.takeSteps(received)
      else if (received.type === 'aborted') slices.aborted(received)
    },
  })
  const publisher = makePublisher({ dirty, slices, overtake, store, send: relay.send, onError })
  const { changed, signal, toFollowers, publish, save } = publisher
  const load = (topic: string): Promise<Stored[]> => store.load(topic)
  const mirror = makeMirror({ registry, slices, toFollowers, load, onError })
  const catchUp = makeDraftCatchUp({ registry, slices, load, merge: mirror.merge, onError })
  const silent = makeSilentDrafts({ registry, slices, signal, giveUp: () => store.expire(limits.draftSilence) })
  const receiveClaim = makeClaims({ origin, registry, generation: (name) => store.generation(name), onError })

  const expire = async (): Promise<void> => {
    await silent.expire()
    mirror.expire()
  }

  return {
    /** Returns the draft that this socket writes under this name, if any. */
    of(writer: DraftWriter, name: DraftName): Draft | undefined {
      const draft = find(name)
      return draft?.writer === writer ? draft : undefined
    },

    wasOvertaken: registry.wasOvertaken,

    wokenAt: silent.wokenAt,

    /** Throws if `units` more UTF-16 code units, and those of a step, exceed a limit: `rate_limited` for the subject's limit, `unavailable` for the instance's. */
    makeRoom(writer: DraftWriter, units: number, step?: Activity): void {
      const full = registry.full(units + (step ? unitsOfStep(step) : 0), writer)
      if (full === 'subject')
        throw deny('rate_limited', 'this subject is writing too many drafts at a time', { retry_after: 1 })
      if (full) throw deny('unavailable', 'this server holds too many drafts: retry later', { retry_after: 1 })
    },

    /** Returns the number of drafts that a socket writes. */
    count: registry.count,

    /** Saves a draft that a socket here writes, so that a claim gets its whole text. */
    async settle(name: DraftName): Promise<void> {
      const draft = find(name)
      if (draft?.writer && isUnsaved(draft)) await save([draft])
    },

    /** A socket has claimed a draft: only this socket writes it from now on. `grows`: its next delta follows at once. */
    open(writer: DraftWriter, claimed: Stored, grows: boolean): Draft {
      const { topic, key, generation, text } = claimed
      const former = find(claimed)
      if (former?.writer === writer) forget(former)
      else if (former) overtake(former)
      const draft = makeDraft(claimed, writer)
      keep(draft)
      if (text === '' && grows) {
        // The delta replaces the text that followers have; the steps follow it.
        draft.news = draft.activity
        return draft
      }
      // The stored draft may have more than the followers here have, or other text.
      sendChanges(toFollowers, draft, former)
      // Followers elsewhere, too, drop the text of a draft that was started over.
      if (text === '' && generation > 1)
        signal({ type: 'delta', topic, key, generation, offset: 0, upto: 0, delta: '' })
      return draft
    },

    append(draft: Draft, delta: string): void {
      registry.write(draft, draft.text + delta)
      changed(draft)
    },

    /** Adds or updates a step. */
    report(draft: Draft, activity: Activity): void {
      registry.report(draft, activity)
      changed(draft)
    },

    /** Saves a draft. Resolves with false if another socket has claimed it. */
    async hold(draft: Draft): Promise<boolean> {
      await save([draft])
      return draft.writer !== undefined
    },

    /** Drops a draft and reports it as aborted. */
    abort(draft: Draft): void {
      const { topic, key, generation } = draft
      forget(draft)
      slices.aborted(draft)
      signal({ type: 'aborted', topic, key, generation })
    },

    /** Drops a draft, wherever it is written, and reports it as aborted. */
    drop({ topic, key }: DraftName): void {
      const draft = find({ topic, key })
      if (draft) forget(draft)
      slices.aborted({ topic, key })
      signal({ type: 'aborted', topic, key, generation: lastGeneration })
    },

    /** The draft has become a message. */
    end(name: DraftName): void {
      const draft = find(name)
      if (draft && (draft.sent < draft.text.length || draft.news.length > 0)) toFollowers(draft, draft.sent, draft.news)
      if (draft) forget(draft)
      signal({ type: 'end', topic: name.topic, key: name.key, generation: lastGeneration })
    },

    /** Sends `cancel` to the writer, on this or another instance. */
    cancel(name: DraftName, by: string): void {
      const writer = find(name)?.writer
      if (writer) writer.push(cancelFrame(name, by))
      else signal({ type: 'cancel', ...name, by })
    },

    /** Returns the draft's writer on this instance, if any. */
    writerOf: (name: DraftName): DraftWriter | undefined => find(name)?.writer,

    /** Returns the keys of the drafts that a socket writes in a chat. */
    writtenBy: (writer: DraftWriter, topic: string): string[] =>
      registry.by(writer).flatMap((draft) => (draft.topic === topic ? [draft.key] : [])),

    join: catchUp.join,

    left: catchUp.left,

    /** A socket has closed: its drafts are saved, so that another socket can continue them. */
    gone(writer: DraftWriter): void {
      const own = registry.by(writer)
      for (const draft of own) {
        publish(draft)
        lose(draft)
      }
      void save(own).catch(onError)
    },

    receive: (payload: string): boolean => receiveClaim(payload) || relay.receive(payload),

    expire: (): void => void expire().catch(onError),

    /** Saves the drafts that sockets here write. */
    async close(): Promise<void> {
      publisher.close()
      mirror.close()
      await save(registry.written()).catch(onError)
    },
  }
}
export type Drafts = ReturnType<typeof makeDrafts>
