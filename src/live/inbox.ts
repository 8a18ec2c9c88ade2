// Inboxes: which sockets here work for which citizen, what each may still take and what it holds. Hints tell in which chats there
// may be news; what is found there is leased to the sockets in turn, so many as each has credit for. The leases of a socket are
// renewed while it lives; when it is gone they run out, and whoever works for the citizen, here or elsewhere, gets its tasks.
import type { Actor } from '../access/actor.ts'
import { encodeFrame } from '../protocol/client-frames.ts'
import type { Message } from '../protocol/rows.ts'
import { formatTopic, topicParts } from '../protocol/topics.ts'

/** A socket that works. */
export type Worker = {
  readonly id: string
  readonly actor: Actor
  readonly closed: boolean
  push(frame: string): boolean
}
type Seen = ReadonlySet<string> | undefined
type Task = { task: string; holder: string; attempt: number; lease_until: string; message: Message }

/** `held`: tasks, and the missions that they are of */
type Place = { credit: number; held: Map<string, string> }
type Inbox = {
  citizen: string
  workers: Map<Worker, Place>
  /** missions in whose chats there may be something new; undefined: any */
  news: Set<string> | undefined
  running: boolean
  /** asked for again while it ran */
  again: boolean
}

// Tasks that are claimed at a time, and missions to be looked at one by one.
const mostClaims = 200
const mostNews = 500
// ms between two looks for leases that ran out and tasks whose time has come, and two rounds of house-keeping.
const lookEvery = 1000
const tidyEvery = 600_000

export const makeInboxes = (options: {
  store: {
    open(citizen: string): Promise<void>
    find(citizen: string, missions: string[] | undefined): Promise<boolean>
    claim(citizen: string, holders: string[], seen: Seen): Promise<Task[]>
    undo(tasks: Task[]): Promise<void>
    renew(held: { task: string; holder: string }[]): Promise<Set<string>>
    tidy(): Promise<void>
  }
  /** Hears the hints of all missions, as long as somebody works here; resolves once they are heard. */
  hearAll: () => Promise<void>
  hearNone: () => void
  onError: (error: unknown) => void
  /** ms between two looks through all chats, should hints get lost */
  pollEvery: number
  /** ms between two renewals of leases */
  renewEvery: number
}) => {
  const { store, onError } = options
  const inboxes = new Map<string, Inbox>()
  const timers: NodeJS.Timeout[] = []
  let closed = false

  const free = (inbox: Inbox): boolean => [...inbox.workers.values()].some(({ credit, held }) => held.size < credit)

  /** Who is to get the next tasks, in turn: a place in the list for each task that a socket may take. */
  const turns = (group: [Worker, Place][]): string[] => {
    const list: string[] = []
    for (let n = 0; list.length < mostClaims; n++) {
      const ready = group.filter(([, { credit, held }]) => held.size + n < credit)
      if (ready.length === 0) break
      list.push(...ready.map(([{ id }]) => id))
    }
    return list.slice(0, mostClaims)
  }

  /** Sockets that see the same missions claim together. */
  const groups = (inbox: Inbox): { seen: Seen; group: [Worker, Place][] }[] => {
    const all = new Map<string, { seen: Seen; group: [Worker, Place][] }>()
    for (const [worker, place] of inbox.workers) {
      const { missions } = worker.actor
      const seen = missions === '*' ? undefined : missions
      const name = seen ? [...seen].sort().join(' ') : '*'
      const known = all.get(name)
      if (known) known.group.push([worker, place])
      else all.set(name, { seen, group: [[worker, place]] })
    }
    return [...all.values()]
  }

  /** Whether what was claimed for those who see `seen` is for this actor. */
  const mayTake = ({ role, missions }: Actor, seen: Seen): boolean =>
    role === 'citizen' &&
    (missions === undefined ||
      missions === '*' ||
      (seen !== undefined && [...seen].every((mission) => missions.has(mission))))

  const give = ({ task, attempt, lease_until, message }: Task, worker: Worker): void => {
    const { mission_id, citizen } = message
    const topic = formatTopic({ kind: 'chat', mission: { id: mission_id }, citizen }, mission_id)
    worker.push(encodeFrame('task', { topic, task, attempt, lease_until, message }))
  }

  /** Gives the sockets what they may take; true if there may be more than they got. */
  const claim = async (inbox: Inbox): Promise<boolean> => {
    let more = false
    for (const { seen, group } of groups(inbox)) {
      const holders = turns(group)
      if (holders.length === 0) continue
      const tasks = await store.claim(inbox.citizen, holders, seen)
      const lost: Task[] = []
      for (const task of tasks) {
        const [worker, place] = group.find(([{ id }]) => id === task.holder) ?? []
        // Its token may have changed meanwhile.
        const may = worker && inbox.workers.get(worker) === place && mayTake(worker.actor, seen)
        if (!worker || !place || !may || worker.closed || closed) lost.push(task)
        else {
          place.held.set(task.task, task.message.mission_id)
          give(task, worker)
        }
      }
      // Who was first is last the next time.
      for (const [worker, place] of group.slice(0, tasks.length))
        if (inbox.workers.delete(worker)) inbox.workers.set(worker, place)
      if (lost.length > 0) await store.undo(lost)
      more ||= tasks.length === holders.length
    }
    return more
  }

  const find = async (inbox: Inbox): Promise<boolean> => {
    const { news } = inbox
    if (news?.size === 0) return false
    inbox.news = new Set()
    try {
      return await store.find(inbox.citizen, news && [...news])
    } catch (error) {
      inbox.news = undefined
      throw error
    }
  }

  const run = async (inbox: Inbox): Promise<void> => {
    inbox.again = true
    if (inbox.running) return
    inbox.running = true
    try {
      while (inbox.again && !closed && free(inbox)) {
        inbox.again = false
        if (await find(inbox)) {
          inbox.news = undefined
          inbox.again = true
        }
        if (await claim(inbox)) inbox.again = true
      }
    } catch (error) {
      // The next look, a second later, tries again.
      onError(error)
    }
    inbox.running = false
  }

  const look = (all: boolean): void => {
    for (const inbox of inboxes.values()) {
      if (all) inbox.news = undefined
      if (free(inbox)) void run(inbox)
    }
  }

  const renew = async (): Promise<void> => {
    // What was claimed and got lost on its way here is not among them: its lease runs out.
    const asked = [...inboxes.values()].flatMap(({ workers }) =>
      [...workers].flatMap(([worker, place]) =>
        [...place.held.keys()].map((task) => ({ task, holder: worker.id, worker })),
      ),
    )
    if (asked.length === 0) return
    const renewed = await store.renew(asked)
    for (const { task, worker } of asked) if (!renewed.has(task)) ended(worker, task)
  }

  /** A socket has a task no more. */
  const ended = (worker: Worker, task: string): void => {
    const inbox = inboxes.get(worker.actor.sub)
    if (inbox?.workers.get(worker)?.held.delete(task)) void run(inbox)
  }

  let heard = Promise.resolve()
  const start = (): void => {
    heard = options.hearAll()
    timers.push(
      setInterval(() => look(false), lookEvery),
      setInterval(() => look(true), options.pollEvery),
      setInterval(() => void renew().catch(onError), options.renewEvery),
      setInterval(() => void store.tidy().catch(onError), tidyEvery * (0.75 + Math.random() / 2)),
    )
  }
  const stop = (): void => {
    for (const timer of timers.splice(0)) clearInterval(timer)
    options.hearNone()
  }

  return {
    /** A socket is going to work for its citizen, whose inbox is opened, if it has none; resolves once hints are heard. */
    async open(worker: Worker): Promise<void> {
      const { sub: citizen } = worker.actor
      let inbox = inboxes.get(citizen)
      if (!inbox) {
        if (inboxes.size === 0) start()
        inbox = { citizen, workers: new Map(), news: undefined, running: false, again: false }
        inboxes.set(citizen, inbox)
      }
      if (!inbox.workers.has(worker)) inbox.workers.set(worker, { credit: 0, held: new Map() })
      await Promise.all([store.open(citizen), heard])
    },

    /** It takes up to `credit` tasks at a time from now on, beside those that it goes on with. */
    work(worker: Worker, credit: number, tasks: string[]): void {
      const inbox = inboxes.get(worker.actor.sub)
      const place = inbox?.workers.get(worker)
      if (!inbox || !place) return
      place.credit = credit
      // Of these it is not known: they go with the next token that sees less.
      for (const task of tasks) place.held.set(task, '')
      void run(inbox)
    },

    ended,

    /**
     * A socket's token gives less than before: what it holds of missions that it does not surely see is another's, as soon as its
     * lease is over.
     */
    narrowed(worker: Worker): void {
      const { role, missions } = worker.actor
      if (role !== 'citizen') return this.gone(worker)
      const place = inboxes.get(worker.actor.sub)?.workers.get(worker)
      if (!place || missions === undefined || missions === '*') return
      for (const [task, mission] of place.held) if (!missions.has(mission)) place.held.delete(task)
    },

    /** A socket is gone; its leases run out. */
    gone(worker: Worker): void {
      const inbox = inboxes.get(worker.actor.sub)
      if (!inbox?.workers.delete(worker) || inbox.workers.size > 0) return
      inboxes.delete(inbox.citizen)
      if (inboxes.size === 0) stop()
    },

    /** Takes a hint, "writer seq topic", of any instance. */
    hint(payload: string): void {
      if (inboxes.size === 0) return
      const topic = payload.slice(payload.lastIndexOf(' ') + 1)
      const { mission, citizen } = topicParts(topic)
      const inbox = citizen === null ? undefined : inboxes.get(citizen)
      if (!inbox) return
      if (inbox.news && inbox.news.size < mostNews) inbox.news.add(mission)
      else inbox.news = undefined
      if (free(inbox)) void run(inbox)
    },

    /** LISTEN holds again: what was hinted meanwhile is not known. */
    check: (): void => look(true),

    /** Tasks that sockets here hold. */
    held(): number {
      let sum = 0
      for (const { workers } of inboxes.values()) for (const { held } of workers.values()) sum += held.size
      return sum
    },

    close(): void {
      closed = true
      if (inboxes.size > 0) stop()
      inboxes.clear()
    },
  }
}
export type Inboxes = ReturnType<typeof makeInboxes>
