// How far a long command is, on stderr: a bar where somebody looks, else a line now and then. Never on stdout; with --json nothing.
import { SingleBar } from 'cli-progress'
import type { Io } from './output.ts'

/** ms between two lines where there is no terminal. */
const every = 5000

export type Progress = {
  /** `done` of `total`, and what to say besides. */
  show(done: number, said: string): void
  stop(): void
}

/** `total` undefined: not known, as of a pipe. */
export const makeProgress = (io: Io, total: number | undefined, now = performance.now.bind(performance)): Progress => {
  if (io.json) return { show: () => {}, stop: () => {} }
  const part = (done: number): string => (total ? `${Math.floor((100 * done) / total)} %, ` : '')
  if (!process.stderr.isTTY || total === undefined) {
    let told = now()
    return {
      show(done, said) {
        if (now() - told < every) return
        told = now()
        io.note(`${part(done)}${said}`)
      },
      stop: () => {},
    }
  }
  const bar = new SingleBar({
    format: '{bar} {percentage} %  {said}  {eta_formatted} to go',
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true,
    fps: 5,
  })
  bar.start(total, 0, { said: '' })
  return { show: (done, said) => bar.update(Math.min(done, total), { said }), stop: () => bar.stop() }
}
