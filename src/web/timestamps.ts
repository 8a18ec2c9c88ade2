// Compares and moves the server's times, RFC 3339 in UTC with up to six decimals, without losing microseconds, which a Date
// does not hold.
const digits = (at: string): [string, number] => {
  const [seconds = '', fraction = ''] = at.replace('Z', '').split('.')
  return [seconds, Number(fraction.padEnd(6, '0').slice(0, 6))]
}

export const isBefore = (a: string, b: string): boolean => {
  const [x, m] = digits(a)
  const [y, n] = digits(b)
  return x < y || (x === y && m < n)
}

/** Returns the time one microsecond later, as an exclusive upper bound that includes the time. */
export const justAfter = (at: string): string => {
  const [seconds, micros] = digits(at)
  if (micros < 999_999) return `${seconds}.${String(micros + 1).padStart(6, '0')}Z`
  return new Date(Date.parse(`${seconds}Z`) + 1000).toISOString()
}

export const toMs = (at: string): number => Date.parse(at)
export const fromMs = (ms: number): string => new Date(Math.round(ms)).toISOString()
