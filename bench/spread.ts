// Percentiles of latencies.
export type Spread = { p50: number; p90: number; p99: number; most: number }

export const spread = (latencies: ArrayLike<number>): Spread => {
  const sorted = Float64Array.from(latencies).sort()
  const at = (share: number): number => sorted[Math.floor((sorted.length - 1) * share)] ?? 0
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99), most: at(1) }
}
