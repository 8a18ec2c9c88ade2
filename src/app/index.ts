// buildApp(config) creates the parts, joins them, starts and stops them. main.ts handles the process: signals, embedded database, output.
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { Tokens } from '../access/tokens.ts'
import type { Config } from '../config/index.ts'
import type { Writer } from '../database/write/writer.ts'
import { makeMeters } from '../http/observability/metrics.ts'
import { makeServer, type LogTo } from '../http/server.ts'
import type { PageState } from '../http/routes/web-app.ts'
import { newInstanceName } from '../http/websocket.ts'
import { makeAuth } from './auth.ts'
import { makeDelivery } from './delivery.ts'
import { installHttp } from './http.ts'
import { makeStorage, type Shared } from './storage.ts'

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string
}

export type App = {
  http: FastifyInstance
  tokens: Tokens
  writer: Writer
  /** Migrates, listens to Postgres and opens the port. Returns the address. */
  start(): Promise<string>
  /** Drains, and closes everything that `start` opened; takes at most about 8 s. */
  close(): Promise<void>
}

/** A step of a shutdown. If it has not ended `within` ms, the next step begins. */
type Step = { stop: () => unknown; within?: number }

/** `logTo` receives the log lines; by default they are written to standard output. `pageState`: whether a missing page is being built. */
export const buildApp = async (
  config: Config,
  {
    seed = false,
    logTo,
    pageState = () => 'found',
  }: { seed?: boolean; logTo?: LogTo; pageState?: () => PageState } = {},
): Promise<App> => {
  const { limits } = config
  let faults = 0
  const server = makeServer(config, () => faults++, logTo)
  const { http, onFault: onError } = server
  const { log } = http
  const instance = newInstanceName()
  const shared: Shared = { instance, log, audit: (line) => log.info({ audit: line }, 'audit'), onError }
  const meters = makeMeters()
  const traces =
    config.traces &&
    (await import('../http/observability/traces.ts')).makeTraces(config.traces, {
      instance,
      version,
      onError: (error) => log.warn({ err: error }, 'traces could not be exported'),
    })

  const storage = makeStorage(config, shared)
  const auth = makeAuth(config, storage, shared)
  const delivery = makeDelivery(config, storage, auth, { meters, traces }, shared)
  const { database, indexer } = storage
  const { writer, listener, bus, tail, hints, ephemeral } = delivery
  const endpoints = await installHttp(server, config, {
    instance,
    version,
    storage,
    auth,
    delivery,
    meters,
    traces,
    onError,
    faults: () => faults,
    pageState,
  })
  const { sockets, api } = endpoints
  auth.onRevoked(sockets.recheck)
  // All clients reconnect, and learn that their cursors belong to the former database.
  storage.onReplaced(() => {
    database.expire()
    listener.renew()
    sockets.close('epoch')
    api.end('epoch')
  })

  const timers: NodeJS.Timeout[] = []
  const repeat = (ms: number, work: () => unknown): void => void timers.push(setInterval(work, ms))

  // Each step that waits has a time limit, since Postgres may hang.
  const steps: Step[] = [
    { stop: endpoints.drain },
    // Frames and requests in flight are answered before the sockets close.
    { stop: () => Promise.all([endpoints.work.idle(), writer.idle()]), within: limits.writeDeadline + 500 },
    { stop: () => sockets.close() },
    { stop: () => http.close(), within: 1500 },
    { stop: () => http.server.closeAllConnections() },
    { stop: () => timers.forEach(clearInterval) },
    { stop: api.close },
    { stop: indexer.close },
    { stop: tail.close },
    { stop: writer.close },
    { stop: ephemeral.close, within: 1500 },
    { stop: hints.close },
    { stop: () => Promise.all([listener.close(), bus?.close(), database.close(), traces?.close()]), within: 1500 },
  ]

  return {
    http,
    tokens: auth.tokens,
    writer,
    async start() {
      await storage.start(seed, endpoints.isDraining)
      // The revocations are read before the port opens, so no revoked token is ever accepted.
      await Promise.all([auth.start(), delivery.readKey()])
      await delivery.start()
      repeat(limits.rightsEvery, delivery.checkRights)
      repeat(limits.expiryEvery, () => storage.requests.expire().catch(onError))
      repeat(limits.expiryEvery, () => storage.runs.failLost(config.runPatience).catch(onError))
      repeat(limits.pollEvery, auth.checkRevocations)
      // The seal uses the database's time, and clocks drift.
      repeat(60_000, () => delivery.readKey().catch(onError))
      repeat(limits.lookEvery, () => database.look().catch(onError))
      repeat(Math.min(5000, limits.draftSilence / 4), ephemeral.drafts.expire)
      repeat(limits.tidyEvery * (0.75 + Math.random() / 2), () => storage.runs.tidy().catch(onError))
      indexer.start()
      return http.listen({ host: config.host, port: config.port })
    },
    async close() {
      for (const { stop, within } of steps)
        // The timer does not keep the process alive.
        await (within === undefined ? stop() : Promise.race([stop(), delay(within, undefined, { ref: false })]))
    },
  }
}
