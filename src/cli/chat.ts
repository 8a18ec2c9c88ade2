// mission-deck say | tail | ask: a citizen's chat from the command line.
import type { Command } from 'commander'
import { citizen, count, mission, whole } from './arguments.ts'
import type { AskOptions } from './ask.ts'
import { withServer } from './server-connection.ts'
import type { SayOptions } from './say.ts'
import type { TailOptions } from './tail.ts'

const withChat = (command: Command): Command =>
  withServer(command)
    .argument('<mission>', 'number or UUID of the mission', mission)
    .argument('<citizen>', 'name of the citizen', citizen)

export const chatCommands = (program: Command): void => {
  withChat(program.command('say'))
    .description('send a message, and exit once it is stored')
    .argument('<text>', 'the message in Markdown; - reads stdin')
    .option('--key <key>', 'idempotency key: a message that is sent again is stored once')
    .option(
      '--code <language:file>',
      'a code block from a file; can be repeated',
      (given: string, before: string[]) => [...before, given],
      [],
    )
    .action(async (...[mission, citizen, text, options]: [string, string, string, SayOptions]) =>
      (await import('./say.ts')).say(mission, citizen, text, options),
    )

  withChat(program.command('tail'))
    .description('print the newest messages, then follow the chat until interrupted; reconnects by itself')
    .option('--after <seq>', 'begin after this seq', whole)
    .option('-n, --lines <n>', 'number of newest messages to print first, up to 500', whole, 20)
    .action(async (...[mission, citizen, options]: [string, string, TailOptions]) =>
      (await import('./tail.ts')).tail(mission, citizen, options),
    )

  withChat(program.command('ask'))
    .description('send a message, print the reply as it is written, and exit once it is stored')
    .argument('<text>', 'the question in Markdown; - reads stdin')
    .option('--key <key>', 'idempotency key: a message that is sent again is stored once')
    .option('--timeout <seconds>', 'seconds to wait for the reply', count, 300)
    .action(async (...[mission, citizen, text, options]: [string, string, string, AskOptions]) =>
      (await import('./ask.ts')).ask(mission, citizen, text, options),
    )
}
