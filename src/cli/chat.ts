// mission-deck say | tail | ask: a citizen's chat from the command line.
import type { Command } from 'commander'
import { citizen, count, mission, whole } from './arguments.ts'
import type { AskOptions } from './ask.ts'
import { withServer } from './server-connection.ts'
import type { SayOptions } from './say.ts'
import type { TailOptions } from './tail.ts'

const withChat = (command: Command): Command =>
  withServer(command).argument('<mission>', 'its number or id', mission).argument('<citizen>', 'its name', citizen)

export const chatCommands = (program: Command): void => {
  withChat(program.command('say'))
    .description('sends a message, and ends once it is stored')
    .argument('<text>', 'the message in Markdown; - takes it from stdin')
    .option('--key <key>', 'sent again under this key it is stored once')
    .option(
      '--code <language:file>',
      'a code block from a file; may be given more than once',
      (given: string, before: string[]) => [...before, given],
      [],
    )
    .action(async (...[mission, citizen, text, options]: [string, string, string, SayOptions]) =>
      (await import('./say.ts')).say(mission, citizen, text, options),
    )

  withChat(program.command('tail'))
    .description('shows the newest messages, then follows the chat until interrupted; reconnects by itself')
    .option('--after <seq>', 'from the message after this one on', whole)
    .option('-n, --lines <n>', 'so many of the newest messages first, up to 500', whole, 20)
    .action(async (...[mission, citizen, options]: [string, string, TailOptions]) =>
      (await import('./tail.ts')).tail(mission, citizen, options),
    )

  withChat(program.command('ask'))
    .description('sends a message, shows the reply as it is written, and ends once that is stored')
    .argument('<text>', 'the question in Markdown; - takes it from stdin')
    .option('--key <key>', 'sent again under this key it is stored once')
    .option('--timeout <seconds>', 'how long to wait for the reply', count, 300)
    .action(async (...[mission, citizen, text, options]: [string, string, string, AskOptions]) =>
      (await import('./ask.ts')).ask(mission, citizen, text, options),
    )
}
