// The output of a child process. At 'exit' the pipes may still hold some of it; at 'close' all of it has been read.
import type { ChildProcess } from 'node:child_process'

export type Output = {
  /** stdout so far */
  out(): string
  /** stderr so far */
  err(): string
  /** Resolves to the exit code once all output has been read; null after a signal. */
  ended: Promise<number | null>
}

export const collect = (child: ChildProcess): Output => {
  let out = ''
  let err = ''
  child.stdout?.setEncoding('utf8').on('data', (data: string) => (out += data))
  child.stderr?.setEncoding('utf8').on('data', (data: string) => (err += data))
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  return { out: () => out, err: () => err, ended }
}
