// Formats times, names and sums in the reader's language and time zone.
const day = 24 * 3600_000
const locale = undefined
const clock = new Intl.DateTimeFormat(locale, { hour: '2-digit', minute: '2-digit' })
const dated = new Intl.DateTimeFormat(locale, { dateStyle: 'medium' })
const exact = new Intl.DateTimeFormat(locale, { timeStyle: 'medium' })
const short = new Intl.DateTimeFormat(locale, { day: 'numeric', month: 'short' })
const long = new Intl.DateTimeFormat(locale, { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' })
const whole = new Intl.DateTimeFormat(locale, { dateStyle: 'full', timeStyle: 'medium' })
const relative = new Intl.RelativeTimeFormat(locale, { numeric: 'auto' })
const money = new Intl.NumberFormat('en-US', { style: 'currency', currency: 'USD', maximumFractionDigits: 0 })

export const timeOf = (at: string): string => clock.format(new Date(at))
/** The time with seconds. */
export const secondsOf = (at: string): string => exact.format(new Date(at))
/** A day; with its year if that is not the current one. */
export const shortDay = (at: string): string => {
  const date = new Date(at)
  return (date.getFullYear() === new Date().getFullYear() ? short : dated).format(date)
}
export const dayAndTime = (at: string): string => `${shortDay(at)}, ${timeOf(at)}`
export const stampOf = (at: string): string => `${shortDay(at)}, ${secondsOf(at)}`
export const fullTime = (at: string): string => whole.format(new Date(at))
export const budget = (dollars: number): string => money.format(dollars)

/** How long ago a time is, in one unit: 2 h ago. */
export const ago = (at: string): string => {
  const minutes = Math.max(1, Math.round((Date.now() - Date.parse(at)) / 60_000))
  if (minutes < 60) return `${minutes} min ago`
  if (minutes < 48 * 60) return `${Math.round(minutes / 60)} h ago`
  return `${Math.round(minutes / 1440)} days ago`
}
/** A time span in whole seconds, minutes or hours. */
export const span = (ms: number): string => {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  if (seconds < 120) return `${seconds} s`
  return seconds < 7200 ? `${Math.floor(seconds / 60)} min` : `${Math.floor(seconds / 3600)} h`
}

const midnight = (at: number): number => new Date(at).setHours(0, 0, 0, 0)
export const sameDay = (a: string, b: string): boolean => midnight(Date.parse(a)) === midnight(Date.parse(b))
export const dayOf = (at: string): string => {
  const days = Math.round((midnight(Date.parse(at)) - midnight(Date.now())) / day)
  const name = long.format(new Date(at))
  return days === 0 || days === -1 ? `${capital(relative.format(days, 'day'))}, ${name}` : name
}

/** A deadline in words: in 3 days, 2 days ago, or its date. */
export const due = (at: string): { text: string; late: boolean; soon: boolean } => {
  const days = Math.round((midnight(Date.parse(at)) - midnight(Date.now())) / day)
  const near = Math.abs(days) <= 14
  return { text: near ? relative.format(days, 'day') : shortDay(at), late: days < 0, soon: days >= 0 && days <= 1 }
}

export const capital = (word: string): string => word.charAt(0).toUpperCase() + word.slice(1)
export const percent = (part: number, all: number): string => (all === 0 ? '' : `${Math.round((100 * part) / all)}%`)
export const count = (n: number): string => (n >= 1000 ? '999+' : String(n))
export const statuses = { active: 'Active', qa: 'In QA', complete: 'Complete' } as const

/** Returns a text in which characters that change its direction (U+202A to U+202E, U+2066 to U+2069) are visible and have no effect. */
export const visible = (text: string): string =>
  text.replace(/[\u202a-\u202e\u2066-\u2069]/g, (char) => `[U+${char.charCodeAt(0).toString(16).toUpperCase()}]`)

/** Whether a text's first letter belongs to a right-to-left script; undefined if it has no letter. */
export const isRightToLeft = (text: string): boolean | undefined => {
  const letter = /\p{L}/u.exec(text)?.[0]
  return letter === undefined
    ? undefined
    : /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u.test(letter)
}
