// A mission's test runs, live, and the log of the run that is shown. The log is read from its start; its last 256 KiB are kept.
import { signal } from '@preact/signals'
import type { Deck, RunTask, TestRun } from '../../client/index.ts'
import { makeFailure, persist } from './online.ts'

const mostLog = 256 * 1024
/** ms between two reads of who has the run that is shown: a lease that ends is no event */
const readTaskEvery = 2000

export const makeRuns = (deck: Deck, mission: string) => {
  const ending = new AbortController()
  const { signal: ended } = ending
  const tests = deck.tests(mission)
  const runs = signal<TestRun[] | undefined>(undefined)
  const failure = makeFailure(deck, ended)
  /** the chosen run's id; '' shows the newest */
  const chosen = signal('')
  let next: string | null = null
  const more = signal(false)

  const take = (given: TestRun[]): void => {
    const held = new Map((runs.peek() ?? []).map((run) => [run.id, run]))
    for (const run of given) if (run.seq >= (held.get(run.id)?.seq ?? 0)) held.set(run.id, run)
    runs.value = [...held.values()].sort((a, b) => b.created_at.localeCompare(a.created_at))
  }
  const load = async (): Promise<void> => {
    const where = next ? { cursor: next } : {}
    const page = await persist(deck, ended, (signal) => tests.list({ limit: 20, ...where, signal }))
    next = page.next
    more.value = next !== null
    take(page.test_runs)
  }
  const run = async (): Promise<void> => {
    const feed = tests.follow({ signal: ended })
    void feed.ready.then(load).catch(failure.set)
    for await (const event of feed) {
      if (event.event !== 'reset') take([event.data])
      else {
        next = null
        runs.value = undefined
        await load()
      }
    }
  }
  run().catch(failure.set)

  return {
    runs,
    chosen,
    failure: failure.text,
    more,
    choose(id: string): void {
      failure.clear()
      chosen.value = id
    },
    load: () => load().catch(failure.set),
    /** Reads a run that is not in the list. */
    read: async (id: string): Promise<void> => {
      try {
        take([await persist(deck, ended, (signal) => tests.get(id, { signal }))])
      } catch (error) {
        chosen.value = ''
        failure.set(error)
      }
    },
    async ask(): Promise<string | undefined> {
      failure.clear()
      try {
        const asked = await tests.run({ signal: ended })
        take([asked])
        return asked.id
      } catch (error) {
        failure.set(error)
        return undefined
      }
    },
    /** Follows a run's log. Returns its growing text; `close` ends it. */
    log(id: string) {
      const text = signal('')
      const cut = signal(false)
      /** whether the log was read and is empty */
      const empty = signal(false)
      const leaving = new AbortController()
      const signal_ = AbortSignal.any([ended, leaving.signal])
      const set = (whole: string): void => {
        const from = whole.length > mostLog ? whole.indexOf('\n', whole.length - mostLog) + 1 : 0
        if (from > 0) cut.value = true
        text.value = from > 0 ? whole.slice(from) : whole
      }
      const read = async (): Promise<void> => {
        const feed = tests.logs(id).follow({ after: 0, signal: signal_ })
        feed.ready.then(
          ({ seq }) => (empty.value = seq === 0),
          () => {},
        )
        for await (const event of feed) {
          if (event.event === 'log.appended') set(text.peek() + event.data.chunk)
          else {
            cut.value = false
            set(event.event === 'log.replaced' ? event.data.chunk : '')
          }
        }
      }
      read().catch(failure.set)
      return { text, cut, empty, close: (): void => leaving.abort() }
    },
    /** Follows who has a run while it is shown. `task` is null if nobody asked for the run, undefined while it is not known. */
    runner(id: string) {
      const task = signal<RunTask | null | undefined>(undefined)
      const leaving = new AbortController()
      const left = AbortSignal.any([ended, leaving.signal])
      let timer: ReturnType<typeof setTimeout> | undefined
      const read = async (): Promise<void> => {
        try {
          if (document.visibilityState === 'visible')
            task.value = await persist(deck, left, (signal) => tests.task(id, { signal }))
        } catch {
          // The run is gone, or the next read succeeds.
        }
        clearTimeout(timer)
        if (!left.aborted) timer = setTimeout(() => void read(), readTaskEvery)
      }
      document.addEventListener('visibilitychange', () => void read(), { signal: left })
      void read()
      return {
        task,
        async cancel(): Promise<void> {
          take([await tests.cancel(id, { signal: left })])
          await read()
        },
        close(): void {
          leaving.abort()
          clearTimeout(timer)
        },
      }
    },
    close: (): void => ending.abort(),
  }
}
export type Runs = ReturnType<typeof makeRuns>
