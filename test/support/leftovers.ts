// Sockets, servers, child processes and timers that a test file leaves open when it ends.
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

type Dispatcher = { close(): Promise<void>; constructor: new () => Dispatcher }
const dispatchers = globalThis as unknown as Record<symbol, Dispatcher | undefined>
const dispatcher = Symbol.for('undici.globalDispatcher.1')

/** Closes the connections that fetch keeps open. The next file opens new ones. */
const closeFetch = async (): Promise<void> => {
  const used = dispatchers[dispatcher]
  if (!used) return
  dispatchers[dispatcher] = new used.constructor()
  await used.close()
}

type Handle = Partial<Pick<Socket, 'localPort' | 'remotePort' | 'connecting' | 'readyState' | 'destroy'>>

/** Describes the open handles, and closes those it can: only this file fails, and the shard can end. */
const close = (): string[] =>
  (process as unknown as { _getActiveHandles(): Handle[] })._getActiveHandles().map((handle) => {
    const { localPort, remotePort, readyState, constructor } = handle as Handle & object
    if (remotePort === undefined && readyState !== 'opening') return constructor.name
    handle.destroy?.()
    return `${constructor.name} ${localPort} to ${remotePort}, ${readyState}`
  })

/** Rejects if anything is still open that keeps the process alive. */
export const nothingLeft = async (): Promise<void> => {
  await closeFetch()
  const own = ['TTYWrap', 'PipeWrap', 'FSReqPromise', 'CloseReq']
  const open = () => process.getActiveResourcesInfo().filter((name) => !own.includes(name))
  for (let tries = 0; open().length > 0 && tries < 250; tries++) await sleep(20)
  const names = open()
  if (names.length > 0) throw new Error(`left over: ${names.join(', ')}; handles: ${close().join('; ')}`)
}
