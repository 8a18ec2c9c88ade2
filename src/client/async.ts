// Cancellable waits, timers, listeners and random keys, independent of the rest of the client.

/** Returns a promise with its resolve and reject. A rejection without a handler is ignored. */
export const defer = <T>() => {
  let resolve!: (value: T) => void
  let reject!: (error: unknown) => void
  const promise = new Promise<T>((yes, no) => {
    resolve = yes
    reject = no
  })
  promise.catch(() => {})
  return { promise, resolve, reject }
}

/** Calls `stop` when one of the signals is aborted, at once if one already is. Returns a function that removes the listeners. */
export const onAbort = (signals: (AbortSignal | undefined)[], stop: (reason: unknown) => void): (() => void) => {
  const given = signals.filter((signal) => signal !== undefined)
  const aborted = given.find((signal) => signal.aborted)
  if (aborted) stop(aborted.reason)
  const listeners = aborted ? [] : given.map((signal) => [signal, () => stop(signal.reason)] as const)
  for (const [signal, listener] of listeners) signal.addEventListener('abort', listener)
  return () => listeners.forEach(([signal, listener]) => signal.removeEventListener('abort', listener))
}

/** Settles as the promise does. Rejects with the signal's reason if a signal is aborted first. */
export const abortable = <T>(promise: Promise<T>, ...signals: (AbortSignal | undefined)[]): Promise<T> => {
  const { promise: first, resolve, reject } = defer<T>()
  const forget = onAbort(signals, reject)
  promise.then(resolve, reject)
  first.then(forget, forget)
  return first
}

export const sleep = (ms: number, ...signals: (AbortSignal | undefined)[]): Promise<void> => {
  const { promise, resolve, reject } = defer<void>()
  const timer = setTimeout(resolve, ms)
  const forget = onAbort(signals, (reason) => {
    clearTimeout(timer)
    reject(reason)
  })
  promise.then(forget, forget)
  return promise
}

/**
 * Returns a function that runs `work` at the end of the turn, never twice at a time. Calls in one turn share one run. A call during
 * a run is followed by another run, as is a run that resolves to true.
 */
export const coalesce = (work: () => Promise<boolean>): (() => void) => {
  let due = false
  let running = false
  const run = async (): Promise<void> => {
    if (running) return
    running = true
    while (due) {
      due = false
      if (await work()) due = true
    }
    running = false
  }
  return () => {
    due = true
    queueMicrotask(() => void run())
  }
}

/** One timer: starting it again replaces its work and its time. */
export const makeTimer = () => {
  let timer: ReturnType<typeof setTimeout> | undefined
  return {
    start(ms: number, work: () => void): void {
      clearTimeout(timer)
      // A timer holds at most 2^31-1 ms.
      timer = setTimeout(work, Math.min(ms, 2 ** 31 - 1))
    },
    stop: (): void => clearTimeout(timer),
  }
}

/** Returns random ms before try n: exponential backoff with full jitter, up to `most`. */
export const backoff = (n: number, most = 15_000): number => Math.random() * Math.min(most, 300 * 2 ** n)

/** Used when the server itself returned `unavailable`: it recovers within seconds of its database. */
export const mostWhenAnswered = 3000

/** Calls a listener. If it throws, the error is thrown again in a microtask, outside of the client. */
export const call = <A extends unknown[]>(listener: (...args: A) => unknown, ...args: A): void => {
  try {
    listener(...args)
  } catch (error) {
    queueMicrotask(() => {
      throw error
    })
  }
}

export const makeBell = <A extends unknown[]>() => {
  const listeners = new Set<(...args: A) => unknown>()
  return {
    on(listener: (...args: A) => unknown): () => void {
      // A wrapper, so that the same function can be added twice.
      const own = (...args: A): unknown => listener(...args)
      listeners.add(own)
      return () => void listeners.delete(own)
    },
    /** Calls the listeners. Returns whether there were any. */
    ring(...args: A): boolean {
      for (const listener of [...listeners]) call(listener, ...args)
      return listeners.size > 0
    },
  }
}

/** A random unique key. crypto.randomUUID does not exist in pages without TLS. */
export const newKey = (): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('')

const encoder = new TextEncoder()
export const byteLength = (text: string): number => encoder.encode(text).length
