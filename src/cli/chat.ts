// mission-deck say | tail | ask | questions | retry | cancel: a citizen's chat from the command line.
import { Option, type Command } from 'commander'
import { questionStates } from '../protocol/rows.ts'
import { citizen, count, mission, question, whole } from './arguments.ts'
import type { AskOptions } from './ask.ts'
import type { QuestionsOptions } from './questions.ts'
import { withServer, type RemoteOptions } from './server-connection.ts'
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
    .option('--reply-to <message>', 'seq or ID of the message of this chat that it answers', question)
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
    .description(
      'ask a question, show what becomes of it, print the reply as it is written, and exit once it is stored',
    )
    .argument('<text>', 'the question in Markdown; - reads stdin')
    .option('--key <key>', 'idempotency key: a message that is sent again is stored once')
    .option(
      '--wait <seconds>',
      'exit 4 once nobody has worked for the citizen for so long; default: only --timeout',
      whole,
    )
    .option('--timeout <seconds>', 'seconds to wait for the reply', count, 300)
    .addHelpText(
      'after',
      '\nExit codes: 0 answered; 1 an error, or no reply within --timeout; 3 the question failed or was closed without a reply;' +
        '\n4 nobody worked for the citizen within --wait. In all these cases the question stays stored.',
    )
    .action(async (...[mission, citizen, text, options]: [string, string, string, AskOptions]) =>
      (await import('./ask.ts')).ask(mission, citizen, text, options),
    )

  withChat(program.command('questions'))
    .description("list a chat's questions to the citizen, and what became of them; newest last")
    .addOption(new Option('--state <state>', 'only questions in this state').choices(questionStates))
    .option('--before <seq>', 'only questions below this seq', whole)
    .option('-n, --limit <n>', 'number of questions, up to 500', count, 50)
    .action(async (...[mission, citizen, options]: [string, string, QuestionsOptions]) =>
      (await import('./questions.ts')).questions(mission, citizen, options),
    )

  for (const [verb, description] of [
    ['retry', 'let a failed question wait again, from attempt 0'],
    ['cancel', 'close a waiting question, or ask the worker of a working one to stop'],
  ] as const)
    withChat(program.command(verb))
      .description(description)
      .argument('<question>', "the question's seq or ID", question)
      .action(async (...[mission, citizen, question, options]: [string, string, string, RemoteOptions]) =>
        (await import('./questions.ts')).change(verb, mission, citizen, question, options),
      )
}
