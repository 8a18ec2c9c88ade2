// Delivery: from the write of a message to the subscribers on all instances. Also drafts, presence and signals, which are not stored.
import type { Config } from '../config/index.ts'
import { fittingTexts } from '../database/bounds.ts'
import { makeWriter } from '../database/write/writer.ts'
import type { Meters } from '../http/observability/metrics.ts'
import type { Traces } from '../http/observability/traces.ts'
import { makeEphemeral } from '../live/ephemeral/index.ts'
import { makeSeal } from '../live/ephemeral/seal.ts'
import { makeHub, type Hub } from '../live/hub/hub.ts'
import { makeRightsPoll } from '../live/hub/rights-poll.ts'
import { makeChannels } from '../sync/channels.ts'
import { makeHints } from '../sync/hints.ts'
import { makeListener } from '../sync/listener.ts'
import { makeBus } from '../sync/nats.ts'
import { makeTail } from '../sync/tail.ts'
import type { Auth } from './auth.ts'
import type { Shared, Storage } from './storage.ts'

/** Returns ms between two records that a citizen's workers are here: clients see it as listening for 60 s, and runs wait for it. */
const noteEvery = (runPatience: number): number => (runPatience > 0 ? Math.min(15_000, runPatience * 250) : 15_000)

export const makeDelivery = (
  config: Config,
  { database, epochs, store, draftStore, tasks, questions: questionStore }: Storage,
  { checkRevocations, tokens }: Pick<Auth, 'checkRevocations' | 'tokens'>,
  { meters, traces }: { meters: Meters; traces: Traces | undefined },
  { instance, log, audit, onError }: Shared,
) => {
  const { limits } = config
  // Set below: the callers are created before the callees.
  let onNotification: (payload: string) => void = () => {}
  let onConnected: () => void = () => {}
  let onPage: Hub['deliver'] = () => {}
  let onSubscriptions: (topic: string, count: number, taken: boolean) => void = () => {}

  const listener = makeListener({
    config: database.direct,
    notify: (channel, payload) => database.main.query('select pg_notify($1, $2)', [channel, payload]),
    onHints: (payload) => onNotification(payload),
    onConnected: () => onConnected(),
    onError,
  })
  const bus = config.hintsUrl
    ? makeBus({
        url: config.hintsUrl,
        space: store.space,
        name: `mission-deck ${instance}`,
        onHeard: (payload) => onNotification(payload),
        onConnected: () => onConnected(),
        onError: (error) => log.warn({ err: error }, 'error of the NATS connection'),
      })
    : undefined
  const hints = makeHints({ bus, origin: instance, channels: makeChannels(listener), notify: store.signal, onError })
  const tail = makeTail({
    origin: instance,
    listen: hints.follow,
    unlisten: hints.unfollow,
    read: store.tailPages,
    heads: store.heads,
    onPage(topic, from, page) {
      onPage(topic, from, page)
      meters.delivered()
      traces?.delivered(topic, page)
    },
    onError,
    pollEvery: limits.pollEvery,
  })
  const hub = makeHub({
    liveBytes: limits.outboxBytes / 2,
    pageBytes: limits.pageBytes,
    follow: tail.follow,
    unfollow: tail.unfollow,
    onSubscriptions: (topic, count, taken) => onSubscriptions(topic, count, taken),
    cursor: tail.cursor,
    page: store.page,
    onError,
  })
  onPage = (topic, from, page) => {
    hub.deliver(topic, from, page)
    ephemeral.questions.events(topic, page.events)
  }

  const seal = makeSeal(instance)
  // Read again after each reconnect: after a failover or a restore the key may differ.
  const readKey = async (): Promise<void> => {
    const { key, time, at } = await store.sealKey()
    seal.use(key, time, at)
  }
  const ephemeral = makeEphemeral({
    origin: instance,
    seal,
    missions: { mark: store.mark, read: store.assigned, chats: store.newChats },
    hub,
    notify: hints.signal,
    channels: hints,
    drafts: draftStore,
    tasks,
    questions: questionStore,
    claims: {
      holds: tokens.holds,
      fitting: (claimed) => fittingTexts(claimed, (task) => JSON.stringify(task)),
    },
    limits,
    noteEvery: noteEvery(config.runPatience),
    onError,
  })
  const { drafts, presence, questions } = ephemeral
  onSubscriptions = (topic, count, taken) => {
    if (taken && count === 1) presence.opened(topic)
    if (count === 0) drafts.left(topic)
    if (!taken) questions.left(topic)
    presence.changed(topic)
  }
  const own = `${instance} `
  // Any client of the database can send a notification: no payload may crash the process.
  onNotification = (payload) => {
    // This instance knows its own messages (onSaved).
    if (payload.startsWith(own)) return
    try {
      if (payload === 'revocations') checkRevocations()
      else if (!ephemeral.receive(payload)) tail.hint(payload)
    } catch (error) {
      onError(error)
    }
  }
  // Notifications that were sent before the connection are lost, so everything is checked.
  onConnected = () => {
    hints.connected()
    void readKey().catch(onError)
    tail.check()
    ephemeral.check()
    checkRevocations()
  }

  const writer = makeWriter(
    database.writer,
    {
      batch: limits.batch,
      batchBytes: limits.batchBytes,
      queue: limits.queue,
      queueBytes: limits.queueBytes,
      deadline: limits.writeDeadline,
    },
    {
      origin: instance,
      onSaved(topic, from, page) {
        tail.saved(topic, from, page)
        hints.saved(topic, page.covered)
        ephemeral.saved(topic)
      },
      onLost() {
        tail.check()
        ephemeral.check()
      },
      tryWriting: () => database.writer.query('select deck.try_writing()'),
      onFault: onError,
      audit,
      saw: epochs.saw,
      observe: { ...meters, committed: traces?.committed },
    },
  )

  return {
    writer,
    listener,
    bus,
    hints,
    tail,
    hub,
    ephemeral,
    readKey,
    checkRights: makeRightsPoll(hub, store.rights, onError),
    async start(): Promise<void> {
      await listener.start()
      bus?.start()
    },
  }
}
export type Delivery = ReturnType<typeof makeDelivery>
