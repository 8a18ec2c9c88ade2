// buildApp(config): makes each part once and joins them. The process (signals, embedded database, output) is main.ts's.
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import underPressure from '@fastify/under-pressure'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { makeKeys } from '../access/jwks.ts'
import { makeRevocations } from '../access/revocations.ts'
import { makeTokens, type Tokens } from '../access/tokens.ts'
import { makeCommands } from '../commands/index.ts'
import { stopTyping } from '../commands/typing.ts'
import type { Config } from '../config/index.ts'
import { installApi } from '../http/routes/index.ts'
import { installBrowserRules } from '../http/plugins/browser-security.ts'
import { clientRoute } from '../http/routes/client-bundle.ts'
import { installDocs, serveDocuments } from '../http/routes/openapi.ts'
import { installEncoding } from '../http/plugins/compression.ts'
import { installErrors } from '../http/plugins/errors.ts'
import { healthRoutes, makeReadiness } from '../http/observability/health.ts'
import { actorOf, makeIdentify } from '../http/plugins/authenticate.ts'
import { takeJson, validatorCompiler } from '../http/plugins/validation.ts'
import { installRateLimits } from '../http/plugins/rate-limits.ts'
import { makeMeters, metricsRoute } from '../http/observability/metrics.ts'
import { pageRoute } from '../http/routes/web-app.ts'
import { makeServer, type LogTo } from '../http/server.ts'
import { installSockets, newInstanceName } from '../http/websocket.ts'
import { makeBeside } from '../live/ephemeral/index.ts'
import { bySubject } from '../live/connections/by-subject.ts'
import { claimMark } from '../live/ephemeral/drafts.ts'
import { makeHub } from '../live/hub/hub.ts'
import { makeInflow } from '../live/connections/byte-rate.ts'
import { makeLedger } from '../live/connections/send-buffer.ts'
import { makeRightsLook } from '../live/hub/rights-poll.ts'
import { makeSeal } from '../live/ephemeral/seal.ts'
import { makeTally } from '../live/connections/counters.ts'
import { makeUserRate } from '../live/connections/user-rate.ts'
import { makeWork } from '../live/connections/in-flight.ts'
import { makeAccess, type Audited } from '../database/auth-store.ts'
import { makeChanges } from '../database/write/changes.ts'
import { makeBus } from '../sync/nats.ts'
import { makeChannels } from '../sync/channels.ts'
import { missingSettings, openDatabase } from '../database/postgres/pools.ts'
import { patiently } from '../database/postgres/wait-for-database.ts'
import { keepsPreparedStatements, noPreparedStatements } from '../database/postgres/pooler.ts'
import { reasonOf } from '../database/postgres/errors.ts'
import { makeDraftStore } from '../database/draft-store.ts'
import { makeEpochs } from '../database/postgres/epoch.ts'
import { makeHints } from '../sync/hints.ts'
import { makeIndexer } from '../database/search/indexer.ts'
import { makeListener } from '../sync/listener.ts'
import { makeMarks } from '../database/read/read-markers.ts'
import { makeMissions } from '../database/read/mission-cache.ts'
import { prepareDatabase } from '../database/postgres/prepare.ts'
import { makeReadChat } from '../database/read/replica.ts'
import { makeRuns } from '../database/write/test-runs.ts'
import { makeStore } from '../database/read/topics.ts'
import { makeTail } from '../sync/tail.ts'
import { makeTasks } from '../database/inbox.ts'
import { makeTransactions } from '../database/postgres/transaction.ts'
import { makeWriter, type Writer } from '../database/write/writer.ts'
import { deny, overloaded } from '../protocol/errors.ts'

/** For races: resolves to false, and leaves nothing behind that would keep the process alive. */
const bound = (ms: number): Promise<boolean> => delay(ms, false, { ref: false })

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string
}

export type App = {
  http: FastifyInstance
  tokens: Tokens
  writer: Writer
  /** Migrates, listens to Postgres and opens the port; -> the address. */
  start(): Promise<string>
  /** Drains and closes everything that start opened; bounded to about 8 s. */
  close(): Promise<void>
}

/** `logTo` takes the log's lines; without it they go to the standard output. */
export const buildApp = async (
  config: Config,
  { seed = false, logTo }: { seed?: boolean; logTo?: LogTo } = {},
): Promise<App> => {
  const { limits } = config
  let faults = 0
  const { http, explain, onFault: onError } = makeServer(config, () => faults++, logTo)
  const { log } = http
  const audit = (line: Audited): void => log.info({ audit: line }, 'audit')

  const instance = newInstanceName()
  const meters = makeMeters()
  const traces =
    config.traces &&
    (await import('../http/observability/traces.ts')).makeTraces(config.traces, {
      instance,
      version,
      onError: (error) => log.warn({ err: error }, 'traces'),
    })
  const tally = makeTally()
  const httpErrors = new Map<string, number>()

  // A restored or promoted database: everybody comes back, and learns that the cursor is of another time.
  const epochs = makeEpochs(() => {
    database.expire()
    listener.renew()
    sockets.close('epoch')
    api.end('epoch')
  })
  const database = openDatabase(
    {
      url: config.databaseUrl,
      directUrl: config.databaseDirectUrl,
      poolMax: config.poolMax,
      greet: epochs.greet,
      deadlines: limits.databaseDeadlines,
      replicaUrl: config.databaseReplicaUrl,
      quietWriter: config.hintsUrl !== '',
    },
    onError,
  )
  const store = makeStore(database.main, database.tail, limits.writeDeadline, epochs)
  const reading = makeReadChat(
    database.main,
    database.replica && { pool: database.replica, place: store.place, onError },
  )
  const transactions = makeTransactions(database.changes)
  const changes = makeChanges(database.main, transactions, audit)
  const runs = makeRuns(database.main, transactions)
  const missions = makeMissions(store, 1000, 10_000)
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
        // NATS does not give back what one sends.
        if (bus) beside.hear(`${instance} ${page.covered} ${topic}`)
      },
      onLost: () => tail.check(),
      tryWriting: () => database.writer.query('select deck.try_writing()'),
      onFault: onError,
      audit,
      saw: epochs.saw,
      observe: { ...meters, committed: traces?.committed },
    },
  )
  const channels = makeChannels({
    listen: (channel) => listener.listen(channel),
    unlisten: (channel) => listener.unlisten(channel),
  })
  const bus = config.hintsUrl
    ? makeBus({
        url: config.hintsUrl,
        space: store.space,
        name: `mission-deck ${instance}`,
        onHeard: (payload) => hear(payload),
        onConnected: () => onConnected(),
        onError: (error) => log.warn({ err: error }, 'NATS'),
      })
    : undefined
  const hints = makeHints({ bus, origin: instance, channels, notify: store.signal, onError })
  const tail = makeTail({
    origin: instance,
    listen: (topic) => hints.follow(topic),
    unlisten: (topic) => hints.unfollow(topic),
    read: store.tailPages,
    heads: store.heads,
    onPage(topic, from, page) {
      hub.deliver(topic, from, page)
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
    onSeats(topic, seats, taken) {
      if (taken && seats === 1) presence.opened(topic)
      if (seats === 0) drafts.left(topic)
      presence.changed(topic)
    },
    cursor: tail.cursor,
    page: store.page,
    onError,
  })
  const draftStore = makeDraftStore(database.main, limits.writeDeadline, `${claimMark}${instance} `)
  const tasks = makeTasks(database.changes, limits.writeDeadline, limits.lease)
  const seal = makeSeal(instance)
  // Another database has another key.
  const readKey = async (): Promise<void> => {
    const { key, time, at } = await store.sealKey()
    seal.use(key, time, at)
  }
  const beside = makeBeside({
    origin: instance,
    seal,
    missions: { mark: store.mark, read: store.assigned, chats: store.newChats },
    hub,
    notify: hints.signal,
    channels: hints,
    drafts: draftStore,
    tasks,
    limits,
    onError,
  })
  const { drafts, presence, inboxes } = beside
  const indexer = makeIndexer(database.changes, instance, onError, limits.pollEvery)
  const marks = makeMarks(database.changes, limits.writeDeadline)
  // Anybody may notify: nothing that is heard may end the process.
  const hear = (payload: string): void => {
    try {
      if (payload === 'revocations') checkRevocations()
      else if (!beside.hear(payload)) tail.hint(payload)
    } catch (error) {
      onError(error)
    }
  }
  // What was told before is not known.
  const onConnected = (): void => {
    hints.connected()
    void readKey().catch(onError)
    tail.check()
    beside.check()
    checkRevocations()
  }
  const listener = makeListener({
    config: database.direct,
    notify: (channel, payload) => database.main.query('select pg_notify($1, $2)', [channel, payload]),
    onHints: hear,
    onConnected,
    onError,
  })

  const access = makeAccess(database.main, limits.ticketLife)
  const revocations = makeRevocations({
    stamp: access.revocationsStamp,
    names: access.revoked,
    onChange: () => sockets.recheck(),
  })
  const checkRevocations = (): void => void revocations.check().catch(onError)
  const keys = config.jwksUrl
    ? makeKeys(config.jwksUrl, limits, (error) => log.warn({ err: error }, 'identity provider'))
    : undefined
  const tokens = makeTokens({
    secret: config.jwtSecret,
    ...(keys ? { keys } : {}),
    issuer: config.jwtIssuer,
    audience: config.jwtAudience,
    isRevoked: revocations.has,
  })

  let draining = false
  const work = makeWork()
  // A socket's request is answered when the socket ends.
  const isRequest = ({ headers }: FastifyRequest): boolean => headers.upgrade === undefined
  http.addHook('onRequest', async (request, reply) => {
    if (isRequest(request)) {
      work.begin()
      // Also where nobody waits for the answer any more.
      reply.raw.once('close', work.end)
    }
    if (draining && request.url.startsWith('/api/')) throw deny('unavailable', 'the server is restarting')
  })
  // Also requests that came before: their connections are closed as soon as they are idle.
  http.addHook('onSend', (_request, reply, _payload, done) => {
    if (draining) reply.header('connection', 'close')
    done()
  })
  await http.register(underPressure, {
    maxEventLoopDelay: limits.eventLoopDelay,
    sampleInterval: limits.pressureEvery,
    pressureHandler: (request: FastifyRequest) =>
      request.url.startsWith('/api/') ? Promise.reject(overloaded()) : undefined,
  })
  http.setValidatorCompiler(validatorCompiler)
  http.setSerializerCompiler(() => (data) => JSON.stringify(data))
  installErrors(http, explain, httpErrors)
  installEncoding(http)
  takeJson(http)
  await installBrowserRules(http, config.allowedOrigins)
  await installDocs(http, version)
  const rates = await installRateLimits(http, limits, (request) => `sub ${actorOf(request).sub}`)
  http.addHook('onRequest', async (request) => {
    const probe = ['/healthz', '/readyz'].includes(request.url)
    if (!probe && (request.is404 || !request.url.startsWith('/api/'))) await rates.anonymous(request)
  })
  const rate = makeUserRate(limits.userMessagesPerSecond, limits.userMessagesBurst)
  const inflowOf = bySubject(() => makeInflow(limits.subjectBytesPerSecond, limits.subjectBytesBurst))
  const ledger = makeLedger(limits.outboxTotalBytes, tally)
  const identify = makeIdentify(tokens, access.takeTicket, rates)
  const sockets = await installSockets(http, {
    identify,
    tokens,
    config,
    instance,
    inflowOf,
    session: {
      handlers: makeCommands({
        tokens,
        hub,
        missions,
        store,
        writer: traces?.watch(writer, 'socket') ?? writer,
        marks,
        draftStore,
        tasks,
        ...beside,
        rate,
      }),
      limits,
      explain,
      leave: hub.leave,
      gone(session) {
        stopTyping(beside.signals, session)
        beside.gone(session)
      },
      head: tail.head,
      ledger,
      work,
      overloaded: () => http.isUnderPressure(),
    },
  })
  const api = await installApi(http, {
    main: database.main,
    store,
    reading,
    changes,
    runs,
    missions,
    writer: traces?.watch(writer, 'http') ?? writer,
    access,
    identify,
    holds: tokens.holds,
    hub,
    ledger,
    limits,
    rate,
    inflowOf,
  })
  const ready = makeReadiness({
    draining: () => draining,
    look: () => database.main.query('select from deck.heads limit 0'),
    patience: 2000,
    listening: listener.ready,
    writing: writer.fault,
    overloaded: () => http.isUnderPressure(),
  })
  healthRoutes(http, ready)
  metricsRoute(http, meters, { version, ready, limits }, () => ({
    sockets: sockets.count(),
    ...api.counts(),
    faults,
    seats: hub.seats(),
    catching: hub.catching(),
    topics: tail.stats().topics,
    tasksHeld: inboxes.held(),
    outboxBytes: ledger.waiting,
    tally,
    httpErrors,
    writer: writer.stats(),
    tail: tail.stats(),
    listener: listener.stats(),
    bus: bus?.stats(),
    reads: reading.stats(),
    pools: database.pools,
  }))
  pageRoute(http)
  clientRoute(http)
  serveDocuments(http, version)

  const lookAtRights = makeRightsLook(hub, store.rights, onError)
  const timers: NodeJS.Timeout[] = []

  return {
    http,
    tokens,
    writer,
    async start() {
      await patiently(
        config.startPatience,
        async () => {
          await prepareDatabase(database.direct, { seed, log: (line) => log.info(line) })
          if (!(await keepsPreparedStatements(database.main, database.changes))) throw new Error(noPreparedStatements)
          const missing = await missingSettings(database.main)
          if (missing.length > 0)
            log.warn(
              `a pooler drops what sessions ask for (${missing.join(', ')}): mission-deck doctor prints what to set for the role`,
            )
        },
        (error, seconds) =>
          log.warn(
            { err: error },
            `the database is not ready (${reasonOf(error)}): trying again for up to ${seconds} s; the port is shut`,
          ),
        () => draining,
      )
      // Nobody who was shut out is let in before the list is known.
      await Promise.all([revocations.check(), readKey()])
      void keys?.warm()
      await listener.start()
      bus?.start()
      timers.push(
        setInterval(() => void lookAtRights(), limits.rightsEvery),
        setInterval(checkRevocations, limits.pollEvery),
        // Clocks drift.
        setInterval(() => void readKey().catch(onError), 60_000),
        setInterval(() => void database.look().catch(onError), limits.lookEvery),
        setInterval(drafts.expire, Math.min(5000, limits.draftSilence / 4)),
        setInterval(() => void runs.tidy().catch(onError), limits.tidyEvery * (0.75 + Math.random() / 2)),
      )
      indexer.start()
      return http.listen({ host: config.host, port: config.port })
    },
    async close() {
      draining = true
      sockets.drain()
      api.drain()
      // What was taken up is answered, then everybody is sent home. Each step has its bound: Postgres may hang.
      await Promise.race([Promise.all([work.idle(), writer.idle()]), bound(limits.writeDeadline + 500)])
      sockets.close()
      await Promise.race([http.close(), bound(1500).then(() => http.server.closeAllConnections())])
      for (const timer of timers) clearInterval(timer)
      api.close()
      indexer.close()
      tail.close()
      writer.close()
      await Promise.race([beside.close(), bound(1500)])
      hints.close()
      await Promise.race([
        Promise.all([listener.close(), bus?.close(), database.close(), traces?.close()]),
        bound(1500),
      ])
    },
  }
}
