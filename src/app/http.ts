// Installs the HTTP server's plugins, its routes and the WebSocket. Fastify runs hooks in the order in which they are installed here.
import underPressure from '@fastify/under-pressure'
import type { FastifyRequest } from 'fastify'
import { makeClaimDraft } from '../commands/claim-draft.ts'
import { makeClaims, type ClaimParts } from '../commands/claims.ts'
import { makeCommands } from '../commands/index.ts'
import { stopTyping } from '../commands/typing.ts'
import type { Config } from '../config/index.ts'
import { healthRoutes, makeReadiness } from '../http/observability/health.ts'
import { metricsRoute, type Meters } from '../http/observability/metrics.ts'
import type { Traces } from '../http/observability/traces.ts'
import { sees } from '../access/policy.ts'
import { actorOf, bearer, makeIdentify } from '../http/plugins/authenticate.ts'
import { boundBodies } from '../http/plugins/body-limits.ts'
import { installBrowserRules, makeAllowed } from '../http/plugins/browser-security.ts'
import { installEncoding } from '../http/plugins/compression.ts'
import { installDrain } from '../http/plugins/drain.ts'
import { installErrors } from '../http/plugins/errors.ts'
import { installRateLimits, limitAnonymous } from '../http/plugins/rate-limits.ts'
import { takeJson, validatorCompiler } from '../http/plugins/validation.ts'
import { clientRoute } from '../http/routes/client-bundle.ts'
import { installApi } from '../http/routes/index.ts'
import { installDocs, serveDocuments } from '../http/routes/openapi.ts'
import { pageRoute, type PageState } from '../http/routes/web-app.ts'
import type { makeServer } from '../http/server.ts'
import { makeGate } from '../http/streams/stream-limit.ts'
import { installSockets } from '../http/websocket.ts'
import { installMcp } from '../integrations/mcp/index.ts'
import { installSignIn } from '../integrations/sign-in/index.ts'
import { bySubject } from '../live/connections/by-subject.ts'
import { makeInflow } from '../live/connections/byte-rate.ts'
import { makeTally } from '../live/connections/counters.ts'
import { makeWork } from '../live/connections/in-flight.ts'
import { makeLedger } from '../live/connections/send-buffer.ts'
import { makeUserRate } from '../live/connections/user-rate.ts'
import { nextEvent } from '../live/hub/next-event.ts'
import { overloaded } from '../protocol/errors.ts'
import { parseMission } from '../protocol/topics.ts'
import type { Auth } from './auth.ts'
import type { Delivery } from './delivery.ts'
import type { Storage } from './storage.ts'

export const installHttp = async (
  { http, explain }: Pick<ReturnType<typeof makeServer>, 'http' | 'explain'>,
  config: Config,
  parts: {
    instance: string
    version: string
    storage: Storage
    auth: Auth
    delivery: Delivery
    meters: Meters
    traces: Traces | undefined
    onError: (error: unknown) => void
    /** Returns the number of logged database errors. */
    faults: () => number
    pageState: () => PageState
  },
) => {
  const { limits } = config
  const { instance, version, storage, auth, delivery, meters, traces } = parts
  const { database, store, missions, access } = storage
  const { tokens } = auth
  const { writer, hub, tail, ephemeral, listener, bus } = delivery
  const work = makeWork()
  const httpErrors = new Map<string, number>()

  const { drain, isDraining } = installDrain(http, work)
  await http.register(underPressure, {
    maxEventLoopDelay: limits.eventLoopDelay,
    sampleInterval: limits.pressureEvery,
    pressureHandler: (request: FastifyRequest) =>
      request.url.startsWith('/api/') ? Promise.reject(overloaded()) : undefined,
  })
  const isOverloaded = (): boolean => http.isUnderPressure()
  http.setValidatorCompiler(validatorCompiler)
  http.setSerializerCompiler(() => (data) => JSON.stringify(data))
  installErrors(http, explain, httpErrors)
  installEncoding(http)
  takeJson(http)
  await installBrowserRules(http, config.allowedOrigins)
  await installDocs(http, version)
  const rates = await installRateLimits(http, limits, (request) => `sub ${actorOf(request).sub}`)
  limitAnonymous(http, rates)

  const tally = makeTally()
  const rate = makeUserRate(limits.userMessagesPerSecond, limits.userMessagesBurst)
  const inflowOf = bySubject(() => makeInflow(limits.subjectBytesPerSecond, limits.subjectBytesBurst))
  const ledger = makeLedger(limits.outboxTotalBytes, tally)
  const identify = makeIdentify(tokens, access, rates)
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
        marks: storage.marks,
        draftStore: storage.draftStore,
        tasks: storage.tasks,
        ...ephemeral,
        rate,
      }),
      limits,
      explain,
      leave: hub.leave,
      gone(session) {
        stopTyping(ephemeral.signals, session)
        ephemeral.gone(session)
      },
      head: tail.head,
      ledger,
      work,
      overloaded: isOverloaded,
    },
  })
  const signIn = {
    sessions: storage.sessions,
    people: storage.people,
    readRevocations: auth.readRevocations,
    signs: config.jwtSecret !== '',
    publicUrl: config.publicUrl,
  }
  await installSignIn(http, {
    ...signIn,
    tokens,
    provider: config.provider,
    secrets: [config.jwtSecret, config.jwtSecretPrevious].filter(Boolean),
    log: http.log,
  })
  const claimParts: ClaimParts = {
    tasks: storage.tasks,
    claims: storage.claims,
    draftStore: storage.draftStore,
    drafts: ephemeral.drafts,
    inboxes: ephemeral.inboxes,
    writer: traces?.watch(writer, 'http') ?? writer,
  }
  const api = await installApi(http, {
    claims: makeClaims(claimParts),
    claimDraft: makeClaimDraft(claimParts, parts.onError),
    main: database.main,
    store,
    reading: storage.reading,
    changes: storage.changes,
    runs: storage.runs,
    requests: storage.requests,
    citizens: storage.citizens,
    citizenKeys: storage.citizenKeys,
    members: storage.members,
    redaction: storage.redaction,
    signIn,
    sign: tokens.sign,
    missions,
    writer: traces?.watch(writer, 'http') ?? writer,
    questions: storage.questions,
    cancelTask: ephemeral.cancels.send,
    runCitizen: config.runCitizen,
    access,
    identify,
    holds: tokens.holds,
    hub,
    ledger,
    limits,
    rate,
    inflowOf,
  })
  const stopping = new AbortController()
  let mcpBodies: ReturnType<typeof boundBodies> | undefined
  await installMcp(http, {
    version,
    publicUrl: config.publicUrl,
    allowed: makeAllowed(config.allowedOrigins),
    identify: (request) => identify(request, { token: bearer(request) }),
    boundBodies: (scope) => (mcpBodies = boundBodies(scope, limits, inflowOf)),
    gate: makeGate(limits.streams, limits.streamsPerSubject, 'too many MCP calls at a time'),
    explain,
    inject: http.inject.bind(http),
    async watch(actor, ref, citizen) {
      const place = await store.place({ mission: parseMission(ref), suffix: `/chat/${citizen}`, run: null })
      const { mission: rights } = place
      if (!rights || !sees(actor, rights)) return () => Promise.resolve()
      return (signal) => nextEvent(hub, actor, `missions/${rights.id}/chat/${citizen}`, { ...place, rights }, signal)
    },
    draining: stopping.signal,
  })
  const ready = makeReadiness({
    draining: isDraining,
    probe: () => database.main.query('select from deck.heads limit 0'),
    patience: 2000,
    listening: listener.ready,
    writing: writer.fault,
    overloaded: isOverloaded,
  })
  healthRoutes(http, ready)
  metricsRoute(http, meters, { version, ready, limits }, () => ({
    sockets: sockets.count(),
    ...api.counts(),
    faults: parts.faults(),
    subscriptions: hub.subscriptions(),
    catching: hub.catching(),
    topics: tail.stats().topics,
    tasksHeld: ephemeral.inboxes.held(),
    claimsWaiting: ephemeral.inboxes.waiting(),
    outboxBytes: ledger.waiting,
    tally,
    httpErrors,
    writer: writer.stats(),
    tail: tail.stats(),
    listener: listener.stats(),
    bus: bus?.stats(),
    reads: storage.reading.stats(),
    pools: database.pools,
  }))
  pageRoute(http, parts.pageState)
  clientRoute(http)
  serveDocuments(http, version)

  return {
    sockets,
    api,
    work,
    isDraining,
    /** Refuses new requests and sockets; frames and requests in flight are answered. */
    drain(): void {
      // The waits of MCP calls end first: they answer with what they know.
      stopping.abort()
      drain()
      mcpBodies?.drain()
      sockets.drain()
      api.drain()
      ephemeral.inboxes.drain()
    },
  }
}
