// A NATS server for one test: the system's nats-server, if it is installed (Debian: apt-get install nats-server).
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createConnection, createServer, type AddressInfo } from 'node:net'
import type { Test } from 'tap'
import { until } from './server.ts'

const find = (): string | undefined => {
  try {
    return execFileSync('which', ['nats-server'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  } catch {
    return undefined
  }
}
const command = find()
/** The reason to skip tests that need nats-server; false if it is installed. */
export const noNats =
  command === undefined ? 'nats-server is not installed (Debian: apt-get install nats-server)' : false

const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  return port
}
const answers = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = createConnection(port, '127.0.0.1', () => socket.destroy())
    socket.once('error', () => resolve(false)).once('close', (failed) => resolve(!failed))
  })

export const password = 'a password of the tests'

/** Starts it with a user `deck`, and kills it at the end of the test. */
export const makeNats = async (t: Test) => {
  const port = await freePort()
  let child: ChildProcess | undefined
  const kill = async (): Promise<void> => {
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, 'exit')
    child.kill('SIGKILL')
    await gone
  }
  t.teardown(kill)
  return {
    url: `nats://deck:${encodeURIComponent(password)}@127.0.0.1:${port}`,
    port,
    async start(): Promise<void> {
      child = spawn(command ?? '', ['-a', '127.0.0.1', '-p', String(port), '--user', 'deck', '--pass', password], {
        stdio: 'ignore',
      })
      await until(() => answers(port), 'nats-server to start')
    },
    kill,
    /** Freezes or resumes the server. */
    pause: (on: boolean): void => void child?.kill(on ? 'SIGSTOP' : 'SIGCONT'),
  }
}
