// The limits, each with its reason: the fixed limits, and the limits from the environment.
import { mebibyte, type Env } from './environment.ts'

/** Limits that can't be configured: limits of the protocol, and limits chosen by measurement. */
const fixed = {
  /** bytes of a client's frame: ten times the largest message with its JSON escapes; HTTP takes larger messages */
  frameBytes: 512 * 1024,
  /** bytes of an HTTP body: a chunk of a run's log, a summary and results of 1 MiB each */
  bodyBytes: 2 * mebibyte,
  /** bytes of a request's headers: a token that names some hundred missions */
  headerBytes: 16 * 1024,
  /** ms in which a request's headers, and the whole request, must arrive: 2 MiB over a slow line take half a minute */
  headersTimeout: 10_000,
  requestTimeout: 60_000,
  /** ms without a byte in either direction until an HTTP connection with an open request is closed: longer than any response takes */
  httpSilence: 60_000,
  /** ms that an idle HTTP connection is kept: longer than the 60 s for which proxies keep theirs */
  keepAlive: 72_000,
  /** consecutive invalid frames after which the socket is closed */
  badFrames: 100,
  /** ms between pings, and ms of silence until a socket is closed: proxies cut idle connections after 60 s */
  pingEvery: 25_000,
  silence: 60_000,
  /** event streams of an instance, and of one sub: each costs as much as a socket */
  streams: 5_000,
  streamsPerSubject: 1_000,
  /** ms between two comments on an event stream: proxies cut connections that are idle for 30 s or 60 s */
  commentEvery: 20_000,
  /** for one subject: responses and searches prepared at a time, waiting requests, and unread response bytes */
  answersAtOnce: 1,
  searchesAtOnce: 8,
  answersWaiting: 256,
  answersUnread: 16 * mebibyte,
  /** bytes of request bodies that are read or handled at a time: of one subject, and of all subjects */
  bodyBytesAtOnce: 16 * mebibyte,
  bodyBytesOfAll: 64 * mebibyte,
  /** for one subject: requests whose bodies wait to be read, and their bytes: 16 s at the rate below */
  bodiesWaiting: 256,
  bodyBytesWaiting: 64 * mebibyte,
  /** ms before a token expires at which its socket is warned */
  tokenWarning: 30_000,
  /** seconds for which a ticket is valid: a page opens its socket at once */
  ticketLife: 30,
  /** ms: keys of the provider are cached, a fetch times out, between two fetches, and keys stay valid while the provider is down */
  keysKeep: 600_000,
  keysTimeout: 5_000,
  keysPause: 5_000,
  keysStale: 86_400_000,
  /** messages and bytes of text in a batch: larger batches do not make a message cheaper */
  batch: 500,
  batchBytes: 4 * mebibyte,
  /** bytes of rows, or one larger row, in a page of a subscription that catches up: a tenth of a second on a fast line */
  pageBytes: mebibyte,
  /** ms after which an unwritten message or an unanswered query fails; clients are promised 5 s */
  writeDeadline: 4_000,
  /** ms that connecting to the database, and a statement of each kind, may take */
  databaseDeadlines: { connect: 2_000, writer: 1_500, tail: 2_000, statement: 4_000 },
  /** ms between two polls of the latest seq of all followed topics, as notifications may be lost */
  pollEvery: 5_000,
  /** ms between two new connections to the database's address: they show a failover to an instance that only reads */
  lookEvery: 5_000,
  /** ms between two polls of the rights on missions with subscriptions; clients are promised 2 s */
  rightsEvery: 1_000,
  /** ms between two polls for requests that expire; clients are promised 2 s */
  expiryEvery: 1_000,
  /** ms over which the delay of the event loop is averaged: a single pause is not an overload */
  pressureEvery: 5_000,
  /** ms that a search for one page may take: a million messages that no index block excludes take 15 s */
  searchPatience: 30_000,
  /** ms between two cleanups */
  tidyEvery: 10_000,
  /** ms after which a draft that does not grow expires */
  draftSilence: 60_000,
  /** bytes of drafts (two for each UTF-16 code unit) of an instance, and of one subject: 200 drafts of the greatest length */
  draftBytes: 64 * mebibyte,
  draftBytesPerSubject: 8 * mebibyte,
  /** ms of silence after which an instance's subs count as absent: 24 s with the poll; clients are promised 30 s */
  presenceLife: 22_000,
  /** claims over HTTP that wait for tasks on an instance, and of one sub: each costs a connection and some KB */
  claimsWaiting: 5_000,
  claimsWaitingPerSubject: 1_000,
  /** seconds for which a task stays leased after its socket has closed, and ms between two renewals of open sockets' leases */
  lease: 30,
  renewEvery: 10_000,
}

/** Returns the limits. `RATE_LIMITS=off` removes the limits on rates. */
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
    /** bytes that one subject may send, over its sockets and in request bodies; above, both are read more slowly */
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
