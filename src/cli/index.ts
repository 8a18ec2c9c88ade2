#!/usr/bin/env node
// The command line. Each file has a group of commands; this one joins them, and reports errors.
// Exit codes: 0 done; 1 failed, with the reason in one line on stderr; 2 invalid command or arguments; 130 interrupted. ask: 3 the question
// ended without a reply; 4 nobody works for the citizen.
// With --json, the reason is { "code", "detail" }.
// Commands import their modules when they run, so that --help is fast.
import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { accessCommands } from './access.ts'
import { carryCommands } from './transfer.ts'
import { chatCommands } from './chat.ts'
import { citizenCommands } from './citizens.ts'
import { doctorCommand } from './doctor.ts'
import { inboxCommand } from './inbox.ts'
import { toFault, Unanswered, Usage } from './output.ts'
import { pruneCommand } from './prune.ts'
import { requestCommands } from './requests.ts'
import { reportCommand } from './report.ts'
import { runnerCommand } from './runner.ts'
import { serverCommands } from './server.ts'
import { inviteCommand } from './sign-in/invite.ts'
import { loginCommands } from './sign-in/login.ts'

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string
}
const args = process.argv.slice(2)
const before = args.includes('--') ? args.slice(0, args.indexOf('--')) : args
const json = before.includes('--json')

const program = new Command('mission-deck')
  .description('Mission Deck: a realtime chat backend that runs on nothing but Postgres')
  .version(version, '-V, --version', 'print the version')
  .helpOption('-h, --help', 'print this help')
  .helpCommand('help [command]', 'print the help of a command')
  .exitOverride()
  .configureOutput({
    // A usage error is reported once, below.
    outputError: () => {},
    ...(json ? { writeErr: () => {} } : {}),
  })
serverCommands(program)
accessCommands(program)
inviteCommand(program)
loginCommands(program)
chatCommands(program)
citizenCommands(program)
inboxCommand(program)
requestCommands(program)
reportCommand(program)
runnerCommand(program)
carryCommands(program)
pruneCommand(program)
doctorCommand(program)

const fail = (code: string, text: string, hint = ''): void => {
  const detail = text.replace(/\n+/g, ' ')
  process.stderr.write(json ? `${JSON.stringify({ code, detail })}\n` : `${detail}\n${hint}`)
}
const hint = (): string => {
  const named = program.commands.find((command) => before.includes(command.name()))
  return `(see mission-deck ${named ? `${named.name()} ` : ''}--help)\n`
}

// The reader may close the pipe early: mission-deck tail … | head.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit(0)
})

try {
  await program.parseAsync()
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : 2
    const helped = error.code === 'commander.help'
    if (error.exitCode !== 0 && helped && json) fail('bad_request', 'no command was given')
    if (error.exitCode !== 0 && !helped) fail('bad_request', error.message.replace(/^error: /, ''), hint())
  } else {
    const { code, detail } = await toFault(error)
    process.exitCode = error instanceof Usage ? 2 : error instanceof Unanswered ? error.exit : 1
    fail(code, detail, error instanceof Usage ? hint() : '')
  }
}
