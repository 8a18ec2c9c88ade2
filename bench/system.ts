// Figures of the operating system: CPU and memory of a process, and of a Postgres with all its backends.
import { readdirSync, readFileSync } from 'node:fs'

/** Fields of /proc/PID/stat after the command's name: state is 0, parent 1. */
const stat = (pid: number | string): number[] => {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1')
    return text
      .slice(text.lastIndexOf(')') + 2)
      .split(' ')
      .map(Number)
  } catch {
    return []
  }
}
const at = (fields: number[], from: number, to: number): number => fields.slice(from, to).reduce((sum, n) => sum + n, 0)
// A tick is 10 ms on every Linux.
const toMicros = 10_000

/** µs of CPU that processes have used. */
export const cpuOf = (pids: number[]): number => pids.reduce((sum, pid) => sum + at(stat(pid), 11, 13), 0) * toMicros

/** µs of CPU of a process and its children, including those that have ended. */
export const cpuOfFamily = (pid: number): number => {
  let ticks = at(stat(pid), 11, 15)
  for (const name of readdirSync('/proc'))
    if (/^\d+$/.test(name)) {
      const fields = stat(name)
      if (fields[1] === pid) ticks += at(fields, 11, 13)
    }
  return ticks * toMicros
}

/** Bytes of memory that a process holds. */
export const memoryOf = (pid: number): number => {
  const [, kilobytes] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1')) ?? []
  return Number(kilobytes) * 1024
}
