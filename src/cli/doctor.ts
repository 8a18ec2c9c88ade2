// mission-deck doctor: checks what the server needs, and advises. Exits with 1 if a check fails, else with 0.
import type { Command } from 'commander'
import { whole } from './arguments.ts'
import type { Finding, Status } from './doctor/finding.ts'
import { makeIo, withJson, type Io } from './output.ts'

type Options = { json?: boolean; long: number }

const worst = (findings: Finding[]): Status =>
  (['fail', 'warn'] as const).find((status) => findings.some((finding) => finding.status === status)) ?? 'ok'

const colours = { ok: 'green', warn: 'yellow', fail: 'red' } as const
const line = ({ paint }: Io, { check, status, detail, advice }: Finding): string =>
  `${paint(colours[status], status.padEnd(4))}  ${check.padEnd(17)}  ${detail}${advice ? `\n${' '.repeat(25)}${paint('bold', `-> ${advice.replaceAll('\n', `\n${' '.repeat(28)}`)}`)}` : ''}\n`

export const doctorCommand = (program: Command): void => {
  withJson(program.command('doctor'))
    .description('check Node, the settings and the database, and advise; changes nothing')
    .option('--long <seconds>', 'report transactions that have been open for at least this long', whole, 60)
    .action(async (options: Options) => {
      const io = makeIo(options)
      const all: Finding[] = []
      const { examine } = await import('./doctor/examine.ts')
      await examine(options.long, (findings) => {
        all.push(...findings)
        if (!io.json) for (const finding of findings) io.write(line(io, finding))
      })
      const status = worst(all)
      const bad = all.filter((finding) => finding.status !== 'ok').length
      io.print(bad === 0 ? 'All is well.' : `${bad} findings need attention.`, { status, checks: all })
      process.exitCode = status === 'fail' ? 1 : 0
    })
}
