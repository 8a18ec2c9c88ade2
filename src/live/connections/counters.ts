// Counters of the sockets of a process, as plain numbers. /metrics reports them.

export type Tally = {
  framesIn: number
  bytesIn: number
  framesOut: number
  bytesOut: number
  /** errors sent, by code */
  errors: Map<string, number>
  /** sockets closed, by close code */
  closes: Map<string, number>
}

export const makeTally = (): Tally => ({
  framesIn: 0,
  bytesIn: 0,
  framesOut: 0,
  bytesOut: 0,
  errors: new Map(),
  closes: new Map(),
})

export const count = (counts: Map<string, number>, name: string): void =>
  void counts.set(name, (counts.get(name) ?? 0) + 1)
