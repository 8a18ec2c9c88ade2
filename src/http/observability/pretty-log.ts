// The log for a terminal: pino's JSON lines as text with time and level. Loaded only if the output is a terminal.
import type { LogTo } from '../server.ts'

export const makePretty = async (): Promise<LogTo> => {
  const { default: pretty } = await import('pino-pretty')
  return pretty({ sync: true, translateTime: 'SYS:HH:MM:ss.l', ignore: 'pid,hostname' })
}
