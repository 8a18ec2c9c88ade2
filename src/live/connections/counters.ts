// What the sockets of a process have done so far, as plain numbers: counting costs next to nothing, telling is /metrics'.

export type Tally = {
  framesIn: number
  bytesIn: number
  framesOut: number
  bytesOut: number
  /** errors told, by their code */
  errors: Map<string, number>
  /** sockets closed, by the code of the close */
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
