// The log for the eye: what pino writes as JSON, a line of words each with its time and level. For a terminal; loaded only there.
import type { LogTo } from '../server.ts'

export const makePretty = async (): Promise<LogTo> => {
  const { default: pretty } = await import('pino-pretty')
  return pretty({ sync: true, translateTime: 'SYS:HH:MM:ss.l', ignore: 'pid,hostname' })
}
