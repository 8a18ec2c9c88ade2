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
