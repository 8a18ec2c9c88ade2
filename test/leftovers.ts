// What a test file leaves open when it is over: sockets, servers, children, timers.
import { setTimeout as sleep } from 'node:timers/promises'

type Dispatcher = { close(): Promise<void>; constructor: new () => Dispatcher }
const dispatchers = globalThis as unknown as Record<symbol, Dispatcher | undefined>
const dispatcher = Symbol.for('undici.globalDispatcher.1')

/** Closes the connections that fetch keeps. The next file gets new ones. */
const closeFetch = async (): Promise<void> => {
  const used = dispatchers[dispatcher]
  if (!used) return
  dispatchers[dispatcher] = new used.constructor()
  await used.close()
}

/** Rejects if anything is still open that keeps the process alive. */
export const nothingLeft = async (): Promise<void> => {
  await closeFetch()
  const own = ['TTYWrap', 'PipeWrap', 'FSReqPromise', 'CloseReq']
  const open = () => process.getActiveResourcesInfo().filter((name) => !own.includes(name))
  for (let tries = 0; open().length > 0 && tries < 100; tries++) await sleep(20)
  if (open().length > 0) throw new Error(`left over: ${open().join(', ')}`)
}
