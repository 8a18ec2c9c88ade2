// The progress of a long command on stderr: a bar on a terminal, else a line every 5 s; nothing with --json.
import { SingleBar } from 'cli-progress'
import type { Io } from './output.ts'

/** Milliseconds between two lines without a terminal. */
const every = 5000

export type Progress = {
  /** Shows `done` of `total`, followed by `text`. */
  show(done: number, text: string): void
  stop(): void
}

/** `total` is undefined if it is not known, as for a pipe. */
export const makeProgress = (io: Io, total: number | undefined, now = performance.now.bind(performance)): Progress => {
  if (io.json) return { show: () => {}, stop: () => {} }
  const part = (done: number): string => (total ? `${Math.floor((100 * done) / total)} %, ` : '')
  if (!process.stderr.isTTY || total === undefined) {
    let shownAt = now()
    return {
      show(done, text) {
        if (now() - shownAt < every) return
        shownAt = now()
        io.note(`${part(done)}${text}`)
      },
      stop: () => {},
    }
  }
  const bar = new SingleBar({
    format: '{bar} {percentage} %  {text}  {eta_formatted} to go',
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true,
    fps: 5,
  })
  bar.start(total, 0, { text: '' })
  return { show: (done, text) => bar.update(Math.min(done, total), { text }), stop: () => bar.stop() }
}
