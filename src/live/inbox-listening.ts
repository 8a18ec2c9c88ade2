// Records for which citizens something works here. At most one statement a second, so that calls do not wait for it.

const most = 1000

export const makeListening = ({
  note,
  onError,
  every = 1000,
}: {
  note: (citizens: string[]) => Promise<void>
  onError: (error: unknown) => void
  every?: number
}) => {
  let used = new Set<string>()
  let timer: NodeJS.Timeout | undefined

  const flush = (): void => {
    if (used.size === 0) return void (timer = undefined)
    const citizens = [...used].sort()
    used = new Set()
    timer = setTimeout(flush, every).unref()
    note(citizens).catch(onError)
  }
  return {
    /** Something works for the citizen. */
    used(citizen: string): void {
      used.add(citizen)
      if (!timer || used.size >= most) {
        clearTimeout(timer)
        flush()
      }
    },
    close(): void {
      clearTimeout(timer)
      timer = undefined
      used.clear()
    },
  }
}
