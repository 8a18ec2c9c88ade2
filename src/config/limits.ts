// The limits, each with its reason: those that the environment sets, and those that it does not.
import { mebibyte, type Env } from './environment.ts'

/** Limits that are not for the operator to set: the protocol's, and those that a measurement chose. */
const fixed = {
  /** bytes of a client's frame: ten times the largest message with its JSON escapes; larger ones go by HTTP */
  frameBytes: 512 * 1024,
  /** bytes of an HTTP body: a chunk of a run's log, a summary and results of 1 MiB each */
  bodyBytes: 2 * mebibyte,
  /** bytes of a request's headers: a token that names some hundred missions */
  headerBytes: 16 * 1024,
  /** ms until a request's headers, and the whole of it, have to be there: 2 MiB over a slow line take half a minute */
  headersTimeout: 10_000,
  requestTimeout: 60_000,
  /** ms without a byte in either direction until an HTTP connection with an open request is closed: longer than any response takes */
  httpSilence: 60_000,
  /** ms that an idle HTTP connection is kept: longer than the 60 s for which proxies keep theirs */
  keepAlive: 72_000,
  /** frames in a row that are none, until the socket is closed */
  badFrames: 100,
  /** ms between pings, and ms of silence until a socket is closed: proxies cut idle connections after 60 s */
  pingEvery: 25_000,
  silence: 60_000,
  /** event streams that an instance serves, and of them those of one sub: some 10 KB each, and what it leaves unread, as a socket */
  streams: 5_000,
  streamsPerSubject: 1_000,
  /** ms between two comments on an event stream: proxies cut what is idle for 30 s or 60 s */
  commentEvery: 20_000,
  /** for one subject: responses and searches prepared at a time, requests that may wait, and unread response bytes */
  answersAtOnce: 1,
  searchesAtOnce: 8,
  answersWaiting: 256,
  answersUnread: 16 * mebibyte,
  /** request bodies that are read or handled at a time, in bytes: of one subject, and of all */
  bodyBytesAtOnce: 16 * mebibyte,
  bodyBytesOfAll: 64 * mebibyte,
  /** for one subject: requests whose bodies may wait to be read, and bytes of them: 16 s at the rate below */
  bodiesWaiting: 256,
  bodyBytesWaiting: 64 * mebibyte,
  /** ms before its token's end that a socket is told */
  tokenWarning: 30_000,
  /** seconds that a ticket is good for: a page opens its socket at once */
  ticketLife: 30,
  /** ms that the provider's keys are kept, that a fetch of them may take, at least lies between two, and that they count while it is away */
  keysKeep: 600_000,
  keysTimeout: 5_000,
  keysPause: 5_000,
  keysStale: 86_400_000,
  /** entries and bytes of text a batch: beyond 500 a message costs the same */
  batch: 500,
  batchBytes: 4 * mebibyte,
  /** bytes of rows that a seat catching up holds at a time, but for one row: a tenth of a second of a fast line */
  pageBytes: mebibyte,
  /** ms until a message that could not be written, or a look-up that was not answered, is given up; clients are promised 5 s */
  writeDeadline: 4_000,
  /** ms that connecting to the database, and a statement of each kind, may take */
  databaseDeadlines: { connect: 2_000, writer: 1_500, tail: 2_000, statement: 4_000 },
  /** ms between two looks at all followed heads, should hints get lost */
  pollEvery: 5_000,
  /** ms between two looks at where the database's address leads: an instance that only reads learns of a failover by it */
  lookEvery: 5_000,
  /** ms between two looks at the rights of missions with seats; the promise is 2 s */
  rightsEvery: 1_000,
  /** ms over which the delay of the event loop is averaged: one pause is not yet too much to do */
  pressureEvery: 5_000,
  /** ms that a page with filters may be looked for: a million messages that no block rules out take 15 s */
  searchPatience: 30_000,
  /** ms between two rounds of house-keeping */
  tidyEvery: 10_000,
  /** ms until a draft that does not grow is given up */
  draftSilence: 60_000,
  /** bytes of drafts (two for each UTF-16 code unit) of an instance, and of one subject: 200 of the longest */
  draftBytes: 64 * mebibyte,
  draftBytesPerSubject: 8 * mebibyte,
  /** ms after which the people of an instance that is not heard of are gone: 24 s with the look for them, 30 are promised */
  presenceLife: 22_000,
  /** seconds that a task stays with a socket that is gone, and ms between two renewals for those that are there */
  lease: 30,
  renewEvery: 10_000,
}

/** Returns the limits; `RATE_LIMITS=off` lifts those on rates. */
export const limitsOf = (env: Env) => {
  const rate = (limit: number): number => (env.RATE_LIMITS === 'off' ? Infinity : limit)
  return {
    ...fixed,
    sockets: env.MAX_SOCKETS,
    socketsPerSubject: env.MAX_SOCKETS_PER_SUBJECT,
    socketsPerUser: env.MAX_SOCKETS_PER_USER,
    topics: env.MAX_TOPICS_PER_SOCKET,
    pending: env.MAX_PENDING_PER_SOCKET,
    framesPerSecond: rate(env.FRAMES_PER_SECOND),
    framesBurst: rate(env.FRAMES_BURST),
    subjectFramesPerSecond: rate(env.SUBJECT_FRAMES_PER_SECOND),
    subjectFramesBurst: rate(env.SUBJECT_FRAMES_BURST),
    /** bytes that one subject may send, over its sockets and in request bodies; beyond, both are read more slowly */
    subjectBytesPerSecond: rate(4 * mebibyte),
    subjectBytesBurst: 32 * mebibyte,
    userMessagesPerSecond: rate(env.USER_MESSAGES_PER_SECOND),
    userMessagesBurst: rate(env.USER_MESSAGES_BURST),
    requestsPerMinute: rate(env.REQUESTS_PER_MINUTE),
    anonymousPerMinute: rate(env.ANONYMOUS_PER_MINUTE),
    authFailuresPerMinute: rate(env.AUTH_FAILURES_PER_MINUTE),
    outboxBytes: env.OUTBOX_BYTES,
    outboxTotalBytes: env.OUTBOX_TOTAL_BYTES,
    queue: env.WRITE_QUEUE,
    queueBytes: env.WRITE_QUEUE_BYTES,
    eventLoopDelay: env.MAX_EVENT_LOOP_DELAY,
  }
}
export type Limits = Readonly<ReturnType<typeof limitsOf>>
