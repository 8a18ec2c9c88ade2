// Parsers of command-line arguments. They run before the command's action.
import { InvalidArgumentError } from 'commander'
import { parseCitizen, parseId, parseMission } from '../protocol/topics.ts'

/** Parses a whole number of at least 1. */
export const count = (text: string): number => {
  const number = Number(text)
  if (!/^\d+$/.test(text) || number < 1 || !Number.isSafeInteger(number))
    throw new InvalidArgumentError('It must be a whole number of at least 1.')
  return number
}

/** Parses a whole number of at least 0. */
export const whole = (text: string): number => (text === '0' ? 0 : count(text))

/** Parses a whole number of 32 bits. */
export const integer = (text: string): number => {
  const number = Number(text)
  if (!/^-?\d+$/.test(text) || number !== (number | 0))
    throw new InvalidArgumentError('It must be a whole number of 32 bits.')
  return number
}

/** Parses the seq of a message, with or without #, or its ID. */
export const question = (text: string): string => {
  const seq = text.replace(/^#/, '')
  if (/^[1-9]\d{0,14}$/.test(seq)) return seq
  return checked((id) => parseId(id, 'a message'))(text)
}

/** Parses a date or an RFC 3339 time with a zone. Returns RFC 3339; a date becomes its start in UTC. */
export const time = (text: string): string => {
  const whole = /^\d{4}-\d\d-\d\d$/.test(text) ? `${text}T00:00:00Z` : text
  if (
    !/^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)$/.test(whole) ||
    Number.isNaN(Date.parse(whole))
  )
    throw new InvalidArgumentError('It must be a date, or an RFC 3339 time with a zone, such as 2026-01-31T00:00:00Z.')
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
