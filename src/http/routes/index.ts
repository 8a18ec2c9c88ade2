// All routes under /api, one file for each resource, and the database readers that only HTTP uses.
import type { FastifyInstance } from 'fastify'
import type { Tokens } from '../../access/tokens.ts'
import type { ClaimDraft } from '../../commands/claim-draft.ts'
import type { Claims } from '../../commands/claims.ts'
import type { Limits } from '../../config/index.ts'
import type { Hub } from '../../live/hub/hub.ts'
import type { Inflow } from '../../live/connections/byte-rate.ts'
import type { Ledger } from '../../live/connections/send-buffer.ts'
import type { Access } from '../../database/auth-store.ts'
import type { Citizens } from '../../database/citizens.ts'
import type { CitizenKeys } from '../../database/citizen-keys.ts'
import type { Members } from '../../database/members.ts'
import type { Redaction } from '../../database/write/redaction.ts'
import type { ChecklistChanges } from '../../database/write/checklist.ts'
import type { MissionChanges } from '../../database/write/missions.ts'
import type { Database } from '../../database/postgres/pools.ts'
import { makeDiff } from '../../database/read/run-diff.ts'
import { makeFind } from '../../database/search/mission-search.ts'
import { makeHistory } from '../../database/read/chat-history.ts'
import { makeMessageReader } from '../../database/read/chat-message.ts'
import { makeLogs } from '../../database/read/run-logs.ts'
import type { Missions } from '../../database/read/mission-cache.ts'
import { makePast } from '../../database/read/state-at.ts'
import { makeReplay } from '../../database/read/chat-stream.ts'
import type { Reading } from '../../database/read/replica.ts'
import type { Requests } from '../../database/write/requests.ts'
import type { Questions } from '../../database/questions.ts'
import type { Runs } from '../../database/write/test-runs.ts'
import { makeSearch } from '../../database/search/chat-search.ts'
import type { Store } from '../../database/read/topics.ts'
import { makeTimeline } from '../../database/read/timeline.ts'
import { makeLines } from '../../database/search/subject-queue.ts'
import { makeTurns, type Turns } from '../../database/postgres/mutex.ts'
import type { Writer } from '../../database/write/writer.ts'
import { boundAnswers } from '../plugins/response-limits.ts'
import { boundBodies } from '../plugins/body-limits.ts'
import { chatMessageRoute } from './chat-message.ts'
import { chatHistoryRoute } from './chat-history.ts'
import { chatListRoute } from './chat-list.ts'
import { chatWriteRoutes } from './chat-writes.ts'
import { citizenRoutes } from './citizens.ts'
import { citizenKeyRoutes } from './citizen-keys.ts'
import { memberRoutes } from './members.ts'
import { redactionRoutes } from './redaction.ts'
import { diffRoute } from './run-diff.ts'
import { dodRoutes } from './checklist.ts'
import { makeFollowing } from '../streams/chat-events.ts'
import { askForToken, type Identify } from '../plugins/authenticate.ts'
import { logRoutes } from './run-logs.ts'
import { questionRoutes, type CancelTask } from './questions.ts'
import { inboxRoutes } from './inbox.ts'
import { peopleRoutes, type SignInParts } from './people.ts'
import { missionRoutes } from './missions.ts'
import { makePacing } from '../streams/timeline-replay.ts'
import { makeStreams } from '../streams/ndjson.ts'
import { requestRoutes } from './requests.ts'
import { searchRoute } from './mission-search.ts'
import { testRoutes } from './test-runs.ts'
import { ticketRoutes } from './tickets.ts'
import { limitsRoute } from './limits.ts'
import type { UserRate } from '../../live/connections/user-rate.ts'
import { timelineRoute } from './timeline.ts'

/** Installs the routes. Returns control of their open streams: event streams, replays and NDJSON. */
export const installApi = async (
  http: FastifyInstance,
  parts: {
    main: Database['main']
    store: Store
    reading: Reading
    changes: MissionChanges & ChecklistChanges
    runs: Runs
    requests: Requests
    citizens: Citizens
    citizenKeys: CitizenKeys
    members: Members
    redaction: Redaction
    signIn: SignInParts
    sign: Tokens['sign']
    missions: Missions
    writer: Writer
    questions: Questions
    cancelTask: CancelTask
    runCitizen: string
    claims: Claims
    claimDraft: ClaimDraft
    access: Access
    identify: Identify
    holds: Tokens['holds']
    hub: Hub
    ledger: Ledger
    limits: Limits
    rate: UserRate
    inflowOf: (sub: string) => Inflow
  },
) => {
  const { main, store, reading, changes, runs, missions, writer, access, hub, ledger, limits, holds } = parts
  const following = makeFollowing({ store, hub, limits, ledger, holds })
  const timeline = makeTimeline(main, limits.writeDeadline)
  const streams = makeStreams(http, { holds, patience: limits.silence })
  const pacing = makePacing({ timeline, store, limits, holds })
  const subjects = makeLines()
  // Long searches of chats and missions share the same turns, and subjects do not wait for each other's statements. While a search
  // statement runs, it takes the place of one of the subject's responses: a subject uses one connection at a time for reads.
  const searching = makeTurns(2)
  const searchTurns: Turns = (sub) => async (work) => {
    const leave = await subjects.enter(`read ${sub}`, limits.answersAtOnce)
    try {
      return await searching(sub)(work)
    } finally {
      leave?.()
    }
  }
  const search = makeSearch(main, searchTurns, limits.searchPatience)
  const past = makePast(main)
  const history = makeHistory(main, reading)
  const draining = new AbortController()
  let bodies: ReturnType<typeof boundBodies> | undefined
  await http.register((api, _options, done) => {
    askForToken(api, parts.identify)
    bodies = boundBodies(api, limits, parts.inflowOf)
    const answers = boundAnswers(api, ledger, limits, subjects)
    ticketRoutes(api, access)
    limitsRoute(api, limits)
    missionRoutes(api, changes, past)
    citizenRoutes(api, parts.citizens)
    citizenKeyRoutes(api, { ...parts.signIn, keys: parts.citizenKeys, sign: parts.sign })
    memberRoutes(api, parts.members)
    redactionRoutes(api, parts.redaction)
    peopleRoutes(api, parts.signIn)
    chatListRoute(api, history)
    chatHistoryRoute(api, { answers, history, past, search, replay: makeReplay(reading, search), streams, following })
    chatMessageRoute(api, makeMessageReader(main))
    questionRoutes(api, parts)
    chatWriteRoutes(api, { changes, missions, writer, rate: parts.rate })
    inboxRoutes(api, parts.claims, parts.claimDraft)
    timelineRoute(api, { answers, timeline, streams, pacing })
    dodRoutes(api, changes, past)
    api.register((scope, _options, done) => {
      testRoutes(scope, { ...parts, past })
      done()
    })
    logRoutes(api, { runs, logs: makeLogs(main) })
    searchRoute(api, answers, makeFind(main, searchTurns, limits.searchPatience))
    requestRoutes(api, { ...parts, answers, past, draining: draining.signal })
    diffRoute(api, answers, makeDiff(main, search))
    done()
  })
  return {
    /** Ends all event streams and replays, with a reason. */
    end(why: string): void {
      following.end(why)
      pacing.end(why)
    },
    drain(): void {
      draining.abort()
      bodies?.drain()
      following.drain()
      pacing.drain()
    },
    close: following.close,
    /** The numbers of open event streams (replays included) and of NDJSON streams. */
    counts: () => ({ streams: following.count() + pacing.count(), lines: streams.count() }),
  }
}
