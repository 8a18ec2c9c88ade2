// Runs a command in a process group of its own, without a shell. Its output is read only as fast as it is taken.
import { spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'

/** ms from SIGTERM to SIGKILL */
const grace = 10_000

export type Exit = {
  /** null: a signal ended the command */
  code: number | null
  signal: NodeJS.Signals | null
  ms: number
  /** it ran for too long and was stopped */
  timedOut: boolean
}
export type CommandOptions = {
  env: NodeJS.ProcessEnv
  /** seconds; undefined: no limit */
  timeout: number | undefined
  /** aborted: the command is stopped */
  signal: AbortSignal
  /** Takes output. Resolves once it takes more. */
  take: (text: string, from: 'stdout' | 'stderr') => Promise<void>
}

/** Resolves once the command and its group have ended. Rejects if the command can't be started, and with the error of `take`. */
export const runCommand = async (
  [file = '', ...args]: readonly string[],
  { env, timeout, signal, take }: CommandOptions,
): Promise<Exit> => {
  const since = performance.now()
  const child = spawn(file, args, { detached: true, env, stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = new AbortController()
  const exited = new Promise<Pick<Exit, 'code' | 'signal'>>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) => resolve({ code, signal }))
  })
  const kill = (by: NodeJS.Signals): void => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, by)
    } catch {
      // The group has ended.
    }
  }
  /** Ends the group: processes that the command has left behind, too. */
  let stopping: Promise<void> | undefined
  const stop = (): Promise<void> =>
    (stopping ??= (async () => {
      kill('SIGTERM')
      await delay(grace, undefined, { signal: ended.signal }).catch(() => {})
      kill('SIGKILL')
      // A process that has left the group may hold the pipes.
      if (!ended.signal.aborted) for (const stream of [child.stdout, child.stderr]) stream.destroy()
    })())
  let failed: { error: unknown } | undefined
  const read = async (stream: Readable, from: 'stdout' | 'stderr'): Promise<void> => {
    const decoder = new TextDecoder()
    try {
      for await (const chunk of stream as AsyncIterable<Uint8Array>) {
        if (failed) continue
        try {
          await take(decoder.decode(chunk, { stream: true }), from)
        } catch (error) {
          failed ??= { error }
          void stop()
        }
      }
      if (!failed) await take(decoder.decode(), from)
    } catch (error) {
      // The stream was destroyed.
      if ((error as NodeJS.ErrnoException).code !== 'ERR_STREAM_PREMATURE_CLOSE') failed ??= { error }
    }
  }

  let timedOut = false
  const timer =
    timeout === undefined
      ? undefined
      : setTimeout(() => {
          timedOut = true
          void stop()
        }, timeout * 1000)
  const onAbort = (): void => void stop()
  if (signal.aborted) onAbort()
  signal.addEventListener('abort', onAbort)
  try {
    const reading = Promise.all([read(child.stdout, 'stdout'), read(child.stderr, 'stderr')])
    const exit = await exited
    const ms = Math.round(performance.now() - since)
    void stop()
    await reading
    if (failed) throw failed.error
    return { ...exit, ms, timedOut }
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', onAbort)
    ended.abort()
    await stopping
  }
}
