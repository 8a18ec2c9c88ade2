// Records for which citizens something works here. At most one statement a second, so that calls do not wait for it.
import type { TaskKind } from '../protocol/client-frames.ts'

const most = 1000

export const makeListening = ({
  note,
  onError,
  every = 1000,
}: {
  note: (citizens: string[], runners: string[]) => Promise<void>
  onError: (error: unknown) => void
  every?: number
}) => {
  let used = new Set<string>()
  /** of `used`: citizens whose workers take runs */
  let runs = new Set<string>()
  let timer: NodeJS.Timeout | undefined

  const flush = (): void => {
    if (used.size === 0) return void (timer = undefined)
    const citizens = [...used].sort()
    const runners = [...runs].sort()
    used = new Set()
    runs = new Set()
    timer = setTimeout(flush, every).unref()
    note(citizens, runners).catch(onError)
  }
  return {
    /** Something works for the citizen, and takes tasks of these kinds. */
    used(citizen: string, kinds: readonly TaskKind[] = []): void {
      used.add(citizen)
      if (kinds.includes('run')) runs.add(citizen)
      if (!timer || used.size >= most) {
        clearTimeout(timer)
        flush()
      }
    },
    close(): void {
      clearTimeout(timer)
      timer = undefined
      used.clear()
      runs.clear()
    },
  }
}
