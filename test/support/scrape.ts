// The figures of a dashboard, from the servers' metrics, which are polled while servers start and stop. Counters of a restarted server
// are added to those before. Gauges keep their maximum. Counts after the last poll of a server are lost.

type Samples = Map<string, number>

const read = async (url: string): Promise<Samples> => {
  const text = await (await fetch(`${url}/metrics`, { signal: AbortSignal.timeout(4000) })).text()
  return new Map(
    text
      .split('\n')
      .filter((line) => line && !line.startsWith('#'))
      .map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]),
  )
}

/** `sites`: functions that return the servers' current addresses. `every`: ms between two polls. */
export const startScraping = (sites: (() => string)[], every: number) => {
  const begun = performance.now()
  const sums: Samples = new Map()
  const peaks: Samples = new Map()
  const last = sites.map((): Samples => new Map())
  let polls = 0
  let misses = 0

  const poll = async (): Promise<void> => {
    await Promise.all(
      sites.map(async (site, i) => {
        const now = await read(site()).catch(() => undefined)
        if (!now) return void misses++
        polls++
        const before = last[i] ?? new Map<string, number>()
        const pid = now.get('process_start_time_seconds')
        const same = before.get('process_start_time_seconds') === pid
        for (const [name, value] of now) {
          const from = same ? (before.get(name) ?? 0) : 0
          sums.set(name, (sums.get(name) ?? 0) + value - from)
          peaks.set(name, Math.max(peaks.get(name) ?? 0, value))
        }
        last[i] = now
      }),
    )
  }
  let polling = poll()
  const timer = setInterval(() => {
    polling = polling.then(poll)
  }, every)

  const sum = (name: string): number => sums.get(name) ?? 0
  const peak = (name: string): number => peaks.get(name) ?? 0
  /** A histogram's quantile from its bucket bounds, as Prometheus computes it. */
  const quantile = (name: string, of: number): number => {
    const buckets = [...sums]
      .filter(([sample]) => sample.startsWith(`${name}_bucket`))
      .map(([sample, count]) => [Number(/le="([^"]+)"/.exec(sample)?.[1]?.replace('+Inf', 'Infinity')), count] as const)
      .sort(([a], [b]) => a - b)
    const rank = of * (buckets.at(-1)?.[1] ?? 0)
    let [low, below] = [0, 0]
    for (const [bound, count] of buckets) {
      if (count >= rank && count > below)
        return bound === Infinity ? low : low + ((bound - low) * (rank - below)) / (count - below)
      ;[low, below] = [bound, count]
    }
    return low
  }
  const byCode = (name: string): string =>
    [...sums]
      .filter(([sample, count]) => sample.startsWith(`${name}{`) && count > 0)
      .map(([sample, count]) => `${/"([^"]+)"/.exec(sample)?.[1]} ${count}`)
      .join(', ') || 'none'

  return {
    /** Polls once more. Returns the dashboard's rows, in its order. */
    async stop(): Promise<string[]> {
      clearInterval(timer)
      await polling
      await poll()
      const seconds = (performance.now() - begun) / 1000
      const ms = (name: string, of: number): string => `${(quantile(name, of) * 1000).toFixed(1)} ms`
      const mb = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`
      const rate = (name: string): string => `${(sum(name) / seconds).toFixed(0)}/s`
      return [
        `polls of the metrics: ${polls}, failed ${misses}`,
        `messages committed: ${sum('deck_messages_total')}, ${rate('deck_messages_total')}; a batch has ${(sum('deck_batch_size_sum') / sum('deck_batch_size_count')).toFixed(1)}`,
        `frames in ${rate('deck_frames_in_total')}, out ${rate('deck_frames_out_total')}; bytes out ${mb(sum('deck_bytes_out_total'))}`,
        `send to commit: p50 ${ms('deck_send_to_commit_seconds', 0.5)}, p99 ${ms('deck_send_to_commit_seconds', 0.99)}`,
        `commit to write: p50 ${ms('deck_commit_to_write_seconds', 0.5)}, p99 ${ms('deck_commit_to_write_seconds', 0.99)}`,
        `most messages in the write queue: ${peak('deck_queue_messages')}; send buffers: ${mb(peak('deck_outbox_bytes'))}; catching up: ${peak('deck_seats_catching')} subscriptions`,
        `hints: ${sum('deck_hints_total')}, found by the look: ${sum('deck_poll_finds_total')}; LISTEN sessions: ${sum('deck_listen_sessions_total')}; errors of the database: ${sum('deck_database_errors_total')}`,
        `errors sent to sockets: ${byCode('deck_socket_errors_total')}; over HTTP: ${byCode('deck_http_errors_total')}; closes: ${byCode('deck_socket_closes_total')}`,
        `most memory: ${mb(peak('process_resident_memory_bytes'))} resident, ${mb(peak('nodejs_heap_size_used_bytes'))} heap; event loop late by p99 ${(peak('nodejs_eventloop_lag_p99_seconds') * 1000).toFixed(0)} ms at the worst; CPU ${sum('process_cpu_seconds_total').toFixed(1)} s in ${seconds.toFixed(0)} s`,
      ]
    },
  }
}
