// All that is served under /api: the readers of log/ that only HTTP asks for, and a file of routes for each resource.
import type { FastifyInstance } from 'fastify'
import type { Tokens } from '../access/tokens.ts'
import type { Limits } from '../config.ts'
import type { Hub } from '../live/hub.ts'
import type { Inflow } from '../live/inflow.ts'
import type { Ledger } from '../live/outbox.ts'
import type { Access } from '../log/access.ts'
import type { Changes } from '../log/changes.ts'
import type { Database } from '../log/database.ts'
import { makeDiff } from '../log/diff.ts'
import { makeFind } from '../log/find.ts'
import { makeHistory } from '../log/history.ts'
import { makeLogs } from '../log/logs.ts'
import type { Missions } from '../log/missions.ts'
import { makePast } from '../log/past.ts'
import { makeReplay } from '../log/replay.ts'
import type { Reading } from '../log/replica.ts'
import type { Runs } from '../log/runs.ts'
import { makeSearch } from '../log/search.ts'
import type { Store } from '../log/store.ts'
import { makeTimeline } from '../log/timeline.ts'
import { makeLines } from '../log/lines-of-subjects.ts'
import { makeTurns, type Turns } from '../log/turn.ts'
import type { Writer } from '../log/writer.ts'
import { boundAnswers } from './answers.ts'
import { boundBodies } from './bodies.ts'
import { chatRoutes } from './chat.ts'
import { diffRoute } from './diff.ts'
import { dodRoutes } from './dod.ts'
import { makeFollowing } from './follow.ts'
import { askForToken, type Identify } from './identity.ts'
import { logRoutes } from './logs.ts'
import { missionRoutes } from './missions.ts'
import { makePacing } from './pace.ts'
import { makeStreams } from './replay.ts'
import { searchRoute } from './search.ts'
import { testRoutes } from './tests.ts'
import { ticketRoutes } from './tickets.ts'
import { limitsRoute } from './told-limits.ts'
import type { UserRate } from '../live/user-rate.ts'
import { timelineRoute } from './timeline.ts'

/** The routes, and what is open by them for as long as its reader stays: event streams, paced and plain replays. */
export const installApi = async (
  http: FastifyInstance,
  parts: {
    main: Database['main']
    store: Store
    reading: Reading
    changes: Changes
    runs: Runs
    missions: Missions
    writer: Writer
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
  // Long searches of a chat and of a mission wait for the same turns: of two subjects, neither waits for the other's statements. A statement
  // has the place of the subject's responses meanwhile, so a subject reads by one connection at a time, and leaves others to other subjects.
  const searching = makeTurns(2)
  const looking: Turns = (sub) => async (work) => {
    const leave = await subjects.enter(`read ${sub}`, limits.answersAtOnce)
    try {
      return await searching(sub)(work)
    } finally {
      leave?.()
    }
  }
  const search = makeSearch(main, looking, limits.searchPatience)
  const past = makePast(main)
  let bodies: ReturnType<typeof boundBodies> | undefined
  await http.register((api, _options, done) => {
    askForToken(api, parts.identify)
    bodies = boundBodies(api, limits, parts.inflowOf)
    const answers = boundAnswers(api, ledger, limits, subjects)
    ticketRoutes(api, access)
    limitsRoute(api, limits)
    missionRoutes(api, changes, past)
    chatRoutes(api, {
      answers,
      changes,
      missions,
      history: makeHistory(main, reading),
      past,
      search,
      replay: makeReplay(reading, search),
      streams,
      following,
      writer,
      rate: parts.rate,
    })
    timelineRoute(api, { answers, timeline, streams, pacing })
    dodRoutes(api, changes, past)
    api.register((scope, _options, done) => {
      testRoutes(scope, runs, past)
      done()
    })
    logRoutes(api, { runs, logs: makeLogs(main) })
    searchRoute(api, answers, makeFind(main, looking, limits.searchPatience))
    diffRoute(api, answers, makeDiff(main, search))
    done()
  })
  return {
    /** Ends what follows and plays, for that reason. */
    end(why: string): void {
      following.end(why)
      pacing.end(why)
    },
    drain(): void {
      bodies?.drain()
      following.drain()
      pacing.drain()
    },
    close: following.close,
    /** How many event streams are followed or played, how many replays are on their way. */
    counts: () => ({ streams: following.count() + pacing.count(), lines: streams.count() }),
  }
}
