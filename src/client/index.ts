// mission-deck/client: a deck is one connection to a server, for browsers and for Node.
// Sent messages are stored once and in order. Events arrive once, in order and without gaps, across lost connections, restarts and
// fresh tokens. Failures are reported as a DeckError with a stable code. The client runs without the server's code.
import type { ChatEvent, ChatSignal } from './events.ts'
import { makeAsk } from './ask-people.ts'
import { makeChat, type Chat } from './chat.ts'
import { DeckError } from './errors.ts'
import { makeTopic, type Topic } from './feed.ts'
import { makeHttp, pathOf, type Fetch } from './http.ts'
import { makeInbox } from './inbox.ts'
import type { AnswerOptions, Handler } from './task-handlers.ts'
import { makeLink, type Welcome } from './link.ts'
import { makeOutbox } from './send-queue.ts'
import {
  makeDod,
  makeEntry,
  makeMission,
  makeMissions,
  makeRequests,
  makeTests,
  readCitizens,
  readOpenRequests,
  type ListOptions,
  type Options,
} from './resources.ts'
import type { SocketMaker } from './socket.ts'
import type { State } from './state.ts'
import { readTimeline, replay, type ReplayOptions, type TimelineOptions } from './timeline.ts'
import { defer, makeBell, onAbort } from './async.ts'
import type { Token } from './tokens.ts'
import type { RunHandler } from './run-job.ts'
import { makeTopics } from './topics.ts'
import { makeWriters } from './reply-writer.ts'

export { DeckError }
export type { DeckErrorCode, DeckErrorExtra } from './errors.ts'
export type * from './events.ts'
export type { Chat, EventsOptions, History, HistoryOptions, PastOptions, Questions, QuestionsOptions } from './chat.ts'
export type { Feed, FeedOptions, FollowOptions, Topic } from './feed.ts'
export type { Ask } from './ask-people.ts'
export type { AnswerOptions, Handler, Reply } from './task-handlers.ts'
export type { Job, RunHandler, RunResult } from './run-job.ts'
export type { Welcome } from './link.ts'
export type { SendOptions } from './send-queue.ts'
export type {
  Channel,
  Checklist,
  AsOfOptions,
  MissionChat,
  OpenRequests,
  Progress,
  SearchOptions,
} from './resources.ts'
export type { State } from './state.ts'
export type { Token } from './tokens.ts'
export type { ReplayOptions, TimelineOptions, TimelinePage } from './timeline.ts'
export type { DoneOptions, Writer } from './reply-writer.ts'
export type { Step, StepStatus } from './reply-steps.ts'
export type { Activity, Redacted } from '../protocol/activity.ts'
export type { RunDiff } from '../protocol/run-diff.ts'
export type { Hit } from '../protocol/search-hits.ts'
export type { Snippet } from '../protocol/snippet.ts'
export type { NewRequest, Request } from '../protocol/requests.ts'
export type {
  Citizen,
  CodeBlock,
  DodItem,
  DodPatch,
  Member,
  Message,
  Mission,
  MissionPatch,
  NewCitizen,
  NewDodItem,
  NewMission,
  NewTestRun,
  Question,
  RunTask,
  TestRun,
  TestRunPatch,
} from '../protocol/rows.ts'

export type ConnectOptions = {
  /** the server's origin: https://deck.example */
  url: string
  /** a JSON Web Token, or a function that returns one: it is called before each connect, and before the token expires */
  token: Token
  /** ms within which the server must answer; then the client reconnects. 60 s if left out */
  patience?: number
  /** closes the deck */
  signal?: AbortSignal
  /** limits of the queue of unsent messages; 1,000 and 8 MiB if left out */
  queue?: { messages?: number; bytes?: number }
  fetch?: Fetch
  WebSocket?: SocketMaker
}

/** A path of encoded parts: a name with a slash must not become two segments. */
const named = (...parts: (string | number)[]): string => pathOf('missions', ...parts)

/** Connects, and reconnects until the deck is closed. Throws `bad_request` for an invalid `url`. */
export const connect = (options: ConnectOptions) => {
  const url = options.url.replace(/\/+$/, '')
  if (!/^https?:/.test(url) || !URL.canParse(url)) throw new DeckError('bad_request', 'url is an origin: http(s)://…')
  const faults = makeBell<[unknown]>()
  const onFault = (error: unknown): void => {
    // Without a listener the error would be lost.
    if (!faults.ring(error)) console.error(error)
  }

  const link = makeLink({
    url,
    token: options.token,
    patience: options.patience,
    WebSocket: options.WebSocket,
    onFault,
    onFrame(frame, size) {
      if (frame.type === 'cancel') {
        writers.cancelled(frame)
        inbox.cancelled(frame)
      } else if (frame.type === 'task') inbox.take(frame)
      else topics.receive(frame, size)
    },
  })
  const http = makeHttp(url, link, options.fetch ?? ((input, init) => fetch(input, init)))
  const outbox = makeOutbox(link, http, { messages: 1000, bytes: 8 * 1024 * 1024, ...options.queue })
  const topics = makeTopics(link)
  const writers = makeWriters(link)
  const topicOf = <E extends { event: string }, S extends { event: string } = never>(name: string): Topic<E, S> =>
    makeTopic<E, S>(topics, name, onFault)

  const requestsOf = (mission: string | number) => makeRequests(http, topicOf, named(mission, 'requests'))
  const testsOf = (mission: string | number) => makeTests(http, topicOf, named(mission, 'tests'))
  const inbox = makeInbox(link, writers, makeAsk(link, requestsOf), testsOf, onFault)

  const closed = defer<DeckError | undefined>()
  link.onState((state, error) => void (state === 'closed' && closed.resolve(error)))
  const forget = onAbort([options.signal], () => link.end())
  void closed.promise.then(forget)
  link.start()

  function on(name: 'state', listener: (state: State, error: DeckError | undefined) => unknown): () => void
  function on(name: 'behind', listener: (events: number) => unknown): () => void
  function on(name: 'error', listener: (error: unknown) => unknown): () => void
  function on(name: 'state' | 'behind' | 'error', listener: (...args: never[]) => unknown): () => void {
    if (name === 'behind') return topics.onBehind(listener as never)
    return name === 'state' ? link.onState(listener as never) : faults.on(listener as never)
  }

  return {
    /** connecting, open, waiting (for the next connect) or closed */
    get state(): State {
      return link.state
    },
    /** The server's first frame on this connection: the subject, its role and the limits. */
    get welcome(): Welcome | undefined {
      return link.welcome
    },
    /**
     * `state`: the state changed, with the error that caused it. `behind`: the number of missed events that are not received yet,
     * after joining or a reconnect; 0 once all are received. `error`: an error that no call can reject with, such as the end of a
     * listener's topic or a handler that threw. Without a listener it is printed. Returns a function that removes the listener.
     */
    on,
    missions: makeMissions(http, topicOf),
    mission: (mission: string | number) => makeMission(http, topicOf, named(mission)),
    chat: (mission: string | number, citizen: string): Chat => {
      const path = named(mission, 'chat', citizen)
      return makeChat(path, topicOf<ChatEvent, ChatSignal>(path), { link, http, outbox, writers })
    },
    dod: (mission: string | number) => makeDod(http, topicOf, named(mission, 'dod')),
    tests: testsOf,
    requests: requestsOf,
    openRequests: (options?: ListOptions) => readOpenRequests(http, options),
    /** A mission's timeline, page by page, up to the current horizon. */
    timeline: (mission: string | number, options?: TimelineOptions) =>
      readTimeline(http, named(mission, 'timeline'), options),
    /** Replays the timeline event by event, at a given speed. An aborted signal ends it without an error. */
    replay: (mission: string | number, options?: ReplayOptions) => replay(http, named(mission, 'timeline'), options),
    /** The registered citizens, by position, then by name: who they are, and whether something works for them. */
    citizens: (options?: Options) => readCitizens(http, options),
    /** A citizen: its entry in the registry, and its inbox. */
    citizen: (name: string) => ({
      ...makeEntry(http, name),
      /** Answers the inbox's tasks, with the citizen's own token, until the signal is aborted or the deck is closed. */
      answer: (handler: Handler, { run, ...options }: AnswerOptions = {}): Promise<void> =>
        inbox.answer(name, { message: handler, run }, options),
      /** Works the test runs that people ask for, with the citizen's own token, until the signal is aborted or the deck is closed. */
      run: (handler: RunHandler, options?: Omit<AnswerOptions, 'run'>): Promise<void> =>
        inbox.answer(name, { run: handler }, options),
    }),
    /** Closes the deck at once: pending calls reject with `closed`. */
    close: (): void => link.end(),
    /** Resolves when the deck is closed: with an error, or with undefined after `close` or the signal. */
    closed: closed.promise,
  }
}
export type Deck = ReturnType<typeof connect>
