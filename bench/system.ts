// What the operating system counts: CPU time, wakeups and memory of a process, and of a Postgres with all its backends.
import { existsSync, readdirSync, readFileSync } from 'node:fs'

/** CPU time in µs, and voluntary context switches. NaN where the system has no /proc. */
export type Used = { cpu: number; wakeups: number }

const hasProc = existsSync('/proc/self/stat')
const read = (path: string): string => {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    // The process has ended.
    return ''
  }
}
const list = (path: string): string[] => {
  try {
    return readdirSync(path).filter((name) => /^\d+$/.test(name))
  } catch {
    return []
  }
}

/** Fields of /proc/PID/stat after the command's name: state is 0, parent 1. */
const stat = (pid: number | string): number[] => {
  const text = read(`/proc/${pid}/stat`)
  return text
    .slice(text.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number)
}
const at = (fields: number[], from: number, to: number): number =>
  fields.slice(from, to).reduce((sum, n) => sum + (n || 0), 0)
// A tick is 10 ms on every Linux.
const toMicros = 10_000

/** A process and its threads. schedstat counts in ns; a kernel without it leaves the ticks. */
const ofProcess = (pid: number | string): Used => {
  let [cpu, wakeups] = [0, 0]
  for (const thread of list(`/proc/${pid}/task`)) {
    const path = `/proc/${pid}/task/${thread}`
    cpu += Number(read(`${path}/schedstat`).split(' ')[0]) / 1000
    wakeups += Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(read(`${path}/status`))?.[1] ?? 0)
  }
  return { cpu: cpu || at(stat(pid), 11, 13) * toMicros, wakeups }
}

const sum = (all: Used[]): Used => ({
  cpu: all.reduce((total, { cpu }) => total + cpu, 0),
  wakeups: all.reduce((total, { wakeups }) => total + wakeups, 0),
})
const unknown: Used = { cpu: NaN, wakeups: NaN }

/** What processes have used so far. */
export const usedBy = (pids: number[]): Used => (hasProc ? sum(pids.map(ofProcess)) : unknown)

/** What a process and its children have used so far. Of children that have ended only the CPU time is known. */
export const usedByFamily = (pid: number): Used => {
  if (!hasProc) return unknown
  const children = list('/proc').filter((name) => stat(name)[1] === pid)
  return sum([ofProcess(pid), { cpu: at(stat(pid), 13, 15) * toMicros, wakeups: 0 }, ...children.map(ofProcess)])
}

/** CPU time of processes in µs. */
export const cpuOf = (pids: number[]): number => usedBy(pids).cpu

/** CPU time in µs of a process, its children, and its children that have ended. */
export const cpuOfFamily = (pid: number): number => usedByFamily(pid).cpu

/** Bytes of memory that a process holds. */
export const memoryOf = (pid: number): number => {
  const [, kilobytes] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1')) ?? []
  return Number(kilobytes) * 1024
}
