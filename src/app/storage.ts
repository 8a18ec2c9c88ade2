// Storage: the connections to Postgres and the stores that use them. Messages are written by the writer in delivery.ts.
import type { FastifyBaseLogger } from 'fastify'
import type { Config } from '../config/index.ts'
import { makeAccess, type Audited } from '../database/auth-store.ts'
import { makeCitizens } from '../database/citizens.ts'
import { makeCitizenKeys } from '../database/citizen-keys.ts'
import { makeMembers } from '../database/members.ts'
import { makeRedaction } from '../database/write/redaction.ts'
import { makeDraftStore } from '../database/draft-store.ts'
import { makeTasks } from '../database/inbox.ts'
import { makeClaimStore } from '../database/inbox-claims.ts'
import { makeEpochs } from '../database/postgres/epoch.ts'
import { reasonOf } from '../database/postgres/errors.ts'
import { keepsPreparedStatements, noPreparedStatements } from '../database/postgres/pooler.ts'
import { openDatabase } from '../database/postgres/pools.ts'
import { missingSettings } from '../database/postgres/session-settings.ts'
import { makePeople } from '../database/people.ts'
import { makeSessions } from '../database/sessions.ts'
import { makeQuestions } from '../database/questions.ts'
import { prepareDatabase } from '../database/postgres/prepare.ts'
import { makeTransactions } from '../database/postgres/transaction.ts'
import { patiently } from '../database/postgres/wait-for-database.ts'
import { makeMissions } from '../database/read/mission-cache.ts'
import { makeMarks } from '../database/read/read-markers.ts'
import { makeReadChat } from '../database/read/replica.ts'
import { makeStore } from '../database/read/topics.ts'
import { makeIndexer } from '../database/search/indexer.ts'
import { makeChecklistChanges } from '../database/write/checklist.ts'
import { makeMissionChanges } from '../database/write/missions.ts'
import { makeRequests } from '../database/write/requests.ts'
import { makeRuns } from '../database/write/test-runs.ts'
import { claimMark } from '../live/ephemeral/draft-claims.ts'

/** Shared by the parts of an instance. */
export type Shared = {
  /** the instance's name */
  instance: string
  log: FastifyBaseLogger
  audit: (line: Audited) => void
  /** Logs an error of the database. */
  onError: (error: unknown) => void
}

export const makeStorage = (config: Config, { instance, log, audit, onError }: Shared) => {
  const { limits } = config
  let onReplaced = (): void => {}
  const epochs = makeEpochs(() => onReplaced())
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
  const { main, changes: writes } = database
  const store = makeStore(main, database.tail, limits.writeDeadline, epochs)
  const transactions = makeTransactions(writes)

  const tasks = makeTasks(writes, limits.writeDeadline, limits.lease)
  const prepare = async (seed: boolean): Promise<void> => {
    await prepareDatabase(database.direct, { seed, log: (line) => log.info(line) })
    if (!(await keepsPreparedStatements(main, writes))) throw new Error(noPreparedStatements)
    const missing = await missingSettings(main)
    if (missing.length > 0)
      log.warn(
        `a pooler drops session settings (${missing.join(', ')}): run mission-deck doctor for the statements that set them for the role`,
      )
  }

  return {
    database,
    epochs,
    store,
    reading: makeReadChat(main, database.replica && { pool: database.replica, place: store.place, onError }),
    changes: {
      ...makeMissionChanges(main, transactions, audit),
      ...makeChecklistChanges(main, transactions, audit),
    },
    runs: makeRuns(main, transactions),
    requests: makeRequests(main, transactions),
    citizens: makeCitizens(main, transactions, audit),
    citizenKeys: makeCitizenKeys(main, audit),
    members: makeMembers(main, transactions, audit),
    redaction: makeRedaction(transactions, audit),
    people: makePeople(main),
    sessions: makeSessions(main, audit),
    missions: makeMissions(store, 1000, 10_000),
    draftStore: makeDraftStore(main, limits.writeDeadline, `${claimMark}${instance} `),
    questions: makeQuestions(main, transactions),
    tasks,
    claims: makeClaimStore(main, writes, tasks),
    indexer: makeIndexer(writes, instance, onError, limits.pollEvery),
    marks: makeMarks(writes, limits.writeDeadline),
    access: makeAccess(main, limits.ticketLife),

    /** Sets the function that is called once the database was restored, promoted or replaced: cursors and connections are invalid. */
    onReplaced(handler: () => void): void {
      onReplaced = handler
    },

    /** Migrates. Waits up to START_PATIENCE for a database that is not ready, unless the instance stops. */
    start: (seed: boolean, isStopping: () => boolean): Promise<void> =>
      patiently(
        config.startPatience,
        () => prepare(seed),
        (error, seconds) =>
          log.warn(
            { err: error },
            `the database is not ready (${reasonOf(error)}): retrying for up to ${seconds} s; the port is closed until then`,
          ),
        isStopping,
      ),
  }
}
export type Storage = ReturnType<typeof makeStorage>
