// Times as the server tells them, RFC 3339 in UTC with up to six digits: compared and moved without losing the last three, which a Date
// does not know.
const digits = (at: string): [string, number] => {
  const [seconds = '', fraction = ''] = at.replace('Z', '').split('.')
  return [seconds, Number(fraction.padEnd(6, '0').slice(0, 6))]
}

export const isBefore = (a: string, b: string): boolean => {
  const [x, m] = digits(a)
  const [y, n] = digits(b)
  return x < y || (x === y && m < n)
}

/** A microsecond later: the bound before which such a time still is. */
export const justAfter = (at: string): string => {
  const [seconds, micros] = digits(at)
  if (micros < 999_999) return `${seconds}.${String(micros + 1).padStart(6, '0')}Z`
  return new Date(Date.parse(`${seconds}Z`) + 1000).toISOString()
}

export const toMs = (at: string): number => Date.parse(at)
export const fromMs = (ms: number): string => new Date(Math.round(ms)).toISOString()
