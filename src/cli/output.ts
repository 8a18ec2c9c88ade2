// Output of commands. Results go to stdout, as lines or (with --json) as JSON; notes and errors go to stderr.
// Only terminals get colours. Text written by users is printed without control characters, because a message must not
// control the terminal.
import type { Command } from 'commander'
import { Refusal, type ErrorCode } from '../protocol/errors.ts'

export type Colour = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'blue' | 'magenta' | 'cyan'
const codes: Record<Colour, [number, number]> = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  blue: [34, 39],
  magenta: [35, 39],
  cyan: [36, 39],
}

export type Paint = (colour: Colour, text: string) => string

export type Io = {
  readonly json: boolean
  /** Whether stdout is a terminal that can show text while it grows. */
  readonly live: boolean
  paint: Paint
  /** Prints the command's result: the line or, with --json, the value. */
  print(line: string, value: unknown): void
  /** Writes text to stdout unchanged. */
  write(text: string): void
  /** Writes a line to stderr; nothing with --json. */
  note(line: string): void
}

export const makeIo = ({ json = false }: { json?: boolean }): Io => {
  const { stdout, stderr } = process
  const live = stdout.isTTY && !json && process.env['TERM'] !== 'dumb'
  const coloured = live && !process.env['NO_COLOR']
  return {
    json,
    live,
    paint: (colour, text) => (coloured ? `\x1b[${codes[colour][0]}m${text}\x1b[${codes[colour][1]}m` : text),
    print: (line, value) => void stdout.write(`${json ? JSON.stringify(value) : line}\n`),
    write: (text) => void stdout.write(text),
    note: (line) => void (json || stderr.write(`${line}\n`)),
  }
}

/** Adds --json, which every command has. */
export const withJson = (command: Command): Command => command.option('--json', 'print JSON instead of text')

/** Replaces control characters, except line feeds and tabs, so that the text is safe for a terminal. */
export const plain = (text: string): string =>
  // eslint-disable-next-line no-control-regex
  text.replace(/\r\n/g, '\n').replace(/[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]/g, '\ufffd')

/** A usage error: exit 2. */
export class Usage extends Error {}

/** Why a question got no reply, with the exit code. */
export class Unanswered extends Refusal {
  constructor(
    readonly exit: 3 | 4,
    code: ErrorCode,
    detail: string,
  ) {
    super(code, detail)
  }
}

export type Fault = { code: string; detail: string }

/** Returns the message of an error. If several addresses were tried, it is the first one's. */
export const messageOf = (error: unknown): string => {
  if (error instanceof AggregateError && error.errors.length > 0) return messageOf(error.errors[0])
  const { message, code } = error as { message?: string; code?: string }
  return (message || code || String(error)).trim()
}

/** SQLSTATEs whose messages need an explanation. */
const states: Record<string, Fault> = {
  '3F000': { code: 'unavailable', detail: 'the database is not migrated: run mission-deck migrate' },
  '42P01': { code: 'unavailable', detail: 'the database is not migrated: run mission-deck migrate' },
  '42883': { code: 'unavailable', detail: 'the database is not migrated: run mission-deck migrate' },
}

/** Returns the code and the one-line detail of any error. */
export const toFault = async (error: unknown): Promise<Fault> => {
  if (error instanceof Usage) return { code: 'bad_request', detail: error.message }
  if (error instanceof Refusal) return { code: error.code, detail: error.detail }
  const { code = '', name, syscall } = error as { code?: string; name?: string; syscall?: string }
  if (name === 'DeckError') return { code, detail: messageOf(error) }
  if (syscall === 'open' || syscall === 'stat') return { code: 'not_found', detail: messageOf(error) }
  const known = states[code]
  if (known) return known
  const detail = messageOf(error)
  if (/^28/.test(code)) return { code: 'unauthorized', detail }
  if (code === '42501') return { code: 'forbidden', detail }
  const first = error instanceof AggregateError ? (error.errors[0] as unknown) : error
  const { toRefusal } = await import('../database/postgres/errors.ts')
  return { code: toRefusal(first)?.code ?? 'internal', detail }
}
/** Which database a command uses without DATABASE_URL, for the end of its help. */
export const databaseHelp =
  '\nWithout DATABASE_URL, the command uses the embedded database of the server that runs in this folder.'
