// Missions, their definition of done and their test runs: read and changed over HTTP, followed over the socket.
import type { RunDiff } from '../protocol/run-diff.ts'
import type {
  Citizen,
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
  RunTask,
  TestRun,
  TestRunPatch,
} from '../protocol/rows.ts'
import type { NewRequest, Request } from '../protocol/requests.ts'
import type { Hit } from '../protocol/search-hits.ts'
import type { DodEvent, LogEvent, MissionEvent, MissionsEvent, RequestEvent, TestEvent } from './events.ts'
import type { Topic } from './feed.ts'
import { pathOf, type Http } from './http.ts'

export type Options = { signal?: AbortSignal }
/** `at`: the state at this time (RFC 3339). */
export type AsOfOptions = Options & { at?: string }
export type Progress = { completed: number; total: number }
export type Checklist = { items: DodItem[]; progress: Progress }
export type Channel = {
  citizen: string
  last_seq: number
  /** `cut`: the message is shortened to 300 characters, or lacks code blocks of over 4 KiB */
  last_message: (Message & { cut?: true }) | null
  read_seq: number
  unread: number
  /** whether something has worked for the citizen within the last 60 s */
  listening: boolean
  /** the numbers of questions in these states, each counted up to 1,000 */
  waiting: number
  working: number
  failed: number
}
/** A chat in the list of missions. */
export type MissionChat = {
  citizen: string
  last_seq: number
  read_seq: number
  /** the number of messages of others after `read_seq`, counted up to 1,000, and the seq of the first */
  unread: number
  first_unread: number | null
  /** whether something has worked for the citizen within the last 60 s */
  listening: boolean
  /** the numbers of questions, each counted up to 1,000 */
  waiting: number
  working: number
  failed: number
}
/** A mission's open requests in the list of missions. `last_seq`: the latest seq of their topic. */
export type OpenRequests = { last_seq: number; open: { citizen: string; count: number }[] }
export type SearchOptions = Options & {
  kind?: Hit['kind']
  order?: 'newest' | 'rank'
  limit?: number
  cursor?: string
  since?: string
  until?: string
}
export type ListOptions = Options & { limit?: number; cursor?: string }
type TopicOf = <E extends { event: string }>(name: string) => Topic<E>

export const makeMissions = (http: Http, topicOf: TopicOf) => ({
  ...topicOf<MissionsEvent>('missions'),
  /** Missions that the caller may see, by number; `cursor` is `next` of the page before. `chats`: each with its unread counts and open requests. */
  list: (options: ListOptions & { status?: Mission['status']; assigned_to?: string; chats?: boolean } = {}) =>
    http<{
      missions: (Mission & { chats?: MissionChat[]; requests?: OpenRequests })[]
      next: string | null
    }>('GET', 'missions', {
      query: options,
      signal: options.signal,
    }),
  create: (body: NewMission, { signal }: Options = {}) => http<Mission>('POST', 'missions', { body, signal }),
})

export const makeMission = (http: Http, topicOf: TopicOf, path: string) => ({
  ...topicOf<MissionEvent>(path),
  get: (options: AsOfOptions = {}) => http<Mission>('GET', path, { query: options, signal: options.signal }),
  patch: (body: MissionPatch, { signal }: Options = {}) => http<Mission>('PATCH', path, { body, signal }),
  remove: async ({ signal }: Options = {}): Promise<void> => void (await http('DELETE', path, { signal })),
  /** The members, by name: people who see the mission as its assignee does. */
  members: async ({ signal }: Options = {}): Promise<Member[]> =>
    (await http<{ members: Member[] }>('GET', `${path}/members`, { signal })).members,
  /** Makes a person a member (admin). */
  addMember: async (sub: string, { signal }: Options = {}): Promise<void> =>
    void (await http('PUT', `${path}/members/${pathOf(sub)}`, { signal, again: true })),
  /** Ends a membership (admin). */
  removeMember: async (sub: string, { signal }: Options = {}): Promise<void> =>
    void (await http('DELETE', `${path}/members/${pathOf(sub)}`, { signal, again: true })),
  /** All chats of the mission, newest message first, each with that message and its unread count. */
  channels: async ({ signal }: Options = {}) => {
    const all: Channel[] = []
    let cursor: string | null | undefined
    do {
      const query = cursor ? { cursor } : {}
      const page = await http<{ channels: Channel[]; next?: string | null }>('GET', `${path}/chat`, { query, signal })
      all.push(...page.channels)
      cursor = page.next
    } while (cursor)
    return all
  },
  /** Searches messages, code blocks, test results and checklist; `cursor` is `next` of the page before. */
  search: (q: string, options: SearchOptions = {}) =>
    http<{ hits: Hit[]; next: string | null }>('GET', `${path}/search`, {
      query: { ...options, q },
      signal: options.signal,
    }),
})

/** The registered citizens, by position, then by name. */
export const readCitizens = async (http: Http, { signal }: Options = {}): Promise<Citizen[]> =>
  (await http<{ citizens: Citizen[] }>('GET', 'citizens', { signal })).citizens

/** A citizen's entry in the registry. */
export const makeEntry = (http: Http, name: string) => {
  const path = pathOf('citizens', name)
  return {
    /** Registers the citizen, or replaces its entry (admin). Without `position` it comes last. */
    put: (body: NewCitizen, { signal }: Options = {}) => http<Citizen>('PUT', path, { body, signal, again: true }),
    /** Removes the citizen from the registry (admin). Its chats stay. */
    remove: async ({ signal }: Options = {}): Promise<void> => void (await http('DELETE', path, { signal })),
  }
}

export const makeDod = (http: Http, topicOf: TopicOf, path: string) => {
  const item = (id: string): string => `${path}/${pathOf(id)}`
  type Changed = { item: DodItem; progress: Progress }
  return {
    ...topicOf<DodEvent>(path),
    list: (options: AsOfOptions = {}) => http<Checklist>('GET', path, { query: options, signal: options.signal }),
    add: (body: NewDodItem, { signal }: Options = {}) => http<DodItem>('POST', path, { body, signal }),
    /** Ticks or unticks an item. An admin may also change its test, or complete it without evidence: `{ completed: true, override }`. */
    set: (id: string, change: boolean | DodPatch, { signal }: Options = {}) =>
      http<Changed>('PATCH', item(id), {
        body: typeof change === 'object' ? change : { completed: change },
        signal,
      }),
    remove: (id: string, { signal }: Options = {}) => http<Changed>('DELETE', item(id), { signal }),
    /** Ticks all items; the mission's status becomes `qa`. Without `override`, rejects with `conflict` if an item lacks evidence. */
    complete: ({ signal, override }: Options & { override?: string } = {}) =>
      http<Checklist>('POST', `${path}/complete`, {
        ...(override === undefined ? {} : { body: { override } }),
        signal,
        again: true,
      }),
    reset: ({ signal }: Options = {}) => http<Checklist>('POST', `${path}/reset`, { signal, again: true }),
  }
}

export const makeTests = (http: Http, topicOf: TopicOf, path: string) => {
  const run = (id: string): string => `${path}/${pathOf(id)}`
  return {
    ...topicOf<TestEvent>(path),
    /** Newest first; `cursor` is `next` of the page before. */
    list: (options: ListOptions & AsOfOptions = {}) =>
      http<{ test_runs: TestRun[]; next: string | null }>('GET', path, { query: options, signal: options.signal }),
    latest: (options: AsOfOptions = {}) =>
      http<TestRun>('GET', `${path}/latest`, { query: options, signal: options.signal }),
    get: (id: string, options: AsOfOptions = {}) =>
      http<TestRun>('GET', run(id), { query: options, signal: options.signal }),
    /** The changes from run `a` to run `b`, and the messages in between. */
    diff: (a: string, b: string, { signal }: Options = {}) =>
      http<RunDiff>('GET', `${run(a)}/diff/${pathOf(b)}`, { signal }),
    /** Requests a test run. */
    run: ({ signal }: Options = {}) => http<TestRun>('POST', `${path}/run`, { signal }),
    /** Cancels a running run: it fails, or its runner is asked to stop. Rejects with `conflict` if it has ended. */
    cancel: (id: string, { signal }: Options = {}) => http<TestRun>('POST', `${run(id)}/cancel`, { signal }),
    /** Who has a requested run; null if it has ended, or nobody requested it. */
    task: async (id: string, { signal }: Options = {}): Promise<RunTask | null> =>
      (await http<{ task: RunTask | null }>('GET', `${run(id)}/task`, { signal })).task,
    create: (body: NewTestRun = {}, { signal }: Options = {}) => http<TestRun>('POST', path, { body, signal }),
    update: (id: string, body: TestRunPatch, { signal }: Options = {}) =>
      http<TestRun>('PATCH', run(id), { body, signal }),
    /** A run's log: read it or its last lines (`tail`), append to it, follow it. */
    logs: (id: string) => ({
      ...topicOf<LogEvent>(`${run(id)}/logs`),
      read: ({ tail, signal }: Options & { tail?: number } = {}) =>
        http<string>('GET', `${run(id)}/logs`, { query: { tail }, signal }),
      append: (text: string, { signal }: Options = {}) =>
        http<{ seq: number }>('POST', `${run(id)}/logs`, { body: text, signal }),
      /** Empties the log (admin). */
      redact: ({ reason, signal }: Options & { reason?: string } = {}) =>
        http<TestRun>('POST', `${run(id)}/logs/redact`, {
          ...(reason === undefined ? {} : { body: { reason } }),
          signal,
          again: true,
        }),
    }),
  }
}

/** The open requests of all missions that the caller may see, the first to expire first; `cursor` is `next` of the page before. */
export const readOpenRequests = (http: Http, options: ListOptions = {}) =>
  http<{ requests: Request[]; next: string | null }>('GET', 'requests', { query: options, signal: options.signal })

/** Requests to people: a citizen asks, and the first answer counts. */
export const makeRequests = (http: Http, topicOf: TopicOf, path: string) => {
  const one = (id: string): string => `${path}/${pathOf(id)}`
  return {
    ...topicOf<RequestEvent>(path),
    /** Newest first; `cursor` is `next` of the page before. */
    list: (options: ListOptions & AsOfOptions & { state?: Request['state'] } = {}) =>
      http<{ requests: Request[]; next: string | null }>('GET', path, { query: options, signal: options.signal }),
    /** With `wait` (seconds, up to 50) it resolves once the request is no longer open, or the time is over. */
    get: (id: string, options: AsOfOptions & { wait?: number } = {}) =>
      http<Request>('GET', one(id), { query: options, signal: options.signal }),
    make: (body: NewRequest, { signal }: Options = {}) => http<Request>('POST', path, { body, signal }),
    /** Rejects with `conflict` if the request is not open any more. */
    answer: (id: string, answer: boolean | string, { signal }: Options = {}) =>
      http<Request>('POST', `${one(id)}/answer`, { body: { answer }, signal }),
    withdraw: (id: string, { signal }: Options = {}) => http<Request>('POST', `${one(id)}/withdraw`, { signal }),
  }
}
