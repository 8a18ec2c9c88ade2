// What arguments may be, told before anything is done.
import { InvalidArgumentError } from 'commander'
import { parseCitizen, parseId, parseMission } from '../protocol/topics.ts'

/** A whole number from 1 on. */
export const count = (text: string): number => {
  const number = Number(text)
  if (!/^\d+$/.test(text) || number < 1 || !Number.isSafeInteger(number))
    throw new InvalidArgumentError('It has to be a whole number from 1 on.')
  return number
}

/** A whole number from 0 on. */
export const whole = (text: string): number => (text === '0' ? 0 : count(text))

/** A date, which begins in UTC, or a time with its zone. */
export const time = (text: string): string => {
  const whole = /^\d{4}-\d\d-\d\d$/.test(text) ? `${text}T00:00:00Z` : text
  if (
    !/^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)$/.test(whole) ||
    Number.isNaN(Date.parse(whole))
  )
    throw new InvalidArgumentError('It has to be a date, or RFC 3339 with a zone, such as 2026-01-31T00:00:00Z.')
  return whole
}

const checked =
  (parse: (text: string) => unknown) =>
  (text: string): string => {
    try {
      parse(text)
      return text
    } catch (error) {
      throw new InvalidArgumentError(`${(error as Error).message}.`)
    }
  }

export const mission = checked(parseMission)
export const citizen = checked(parseCitizen)
export const run = checked((text) => parseId(text, 'a test run'))
