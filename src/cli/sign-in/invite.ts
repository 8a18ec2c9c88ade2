// mission-deck invite: a link that signs a person in, made on the database. It is the way to the first admin of a server.
import { hostname, userInfo } from 'node:os'
import { Argument, Option, type Command } from 'commander'
import type { Role } from '../../access/actor.ts'
import { deny } from '../../protocol/errors.ts'
import { invitedDays } from '../../protocol/people.ts'
import { parseCitizen, parseMission } from '../../protocol/topics.ts'
import { count } from '../arguments.ts'
import { databaseHelp, makeIo, Usage, withJson } from '../output.ts'
import { toUrl } from '../server-connection.ts'

type Options = { json?: boolean; missions?: string; days: number; url: string }

export const inviteCommand = (program: Command): void => {
  withJson(program.command('invite'))
    .description('print a link that signs a person in, once; made on the database, so it also makes the first admin')
    .argument('<sub>', 'user ID of the person, such as its email address')
    .addArgument(
      new Argument('[role]', 'user, citizen or admin').choices(['user', 'citizen', 'admin']).default('admin'),
    )
    .option('--missions <list>', 'missions that the person sees, by UUID or number: 47,48; or *')
    .option('--days <n>', 'days until the link expires, 1 to 365', count, invitedDays)
    .addOption(
      new Option('--url <url>', 'URL of the server, for the link').env('PUBLIC_URL').default('http://127.0.0.1:3000'),
    )
    .addHelpText('after', databaseHelp)
    .action(async (sub: string, role: Role, { json, missions: list, days, url }: Options) => {
      if (days > 365) throw new Usage('--days must be 1 to 365')
      if (sub.length === 0 || sub.length > 256 || Buffer.byteLength(sub) > 1024)
        throw deny('bad_request', 'a user ID has 1 to 256 characters')
      if (role === 'citizen') parseCitizen(sub)
      const missions = list === '*' ? ('*' as const) : list?.split(',')
      if (Array.isArray(missions)) missions.forEach(parseMission)
      const { origin } = toUrl(url)
      const [{ direct, withClient }, { addInvite }] = await Promise.all([
        import('../database.ts'),
        import('../../database/sessions.ts'),
      ])
      const by = `${userInfo().username}@${hostname()}`
      const { secret, expires_at } = await withClient(await direct(true), (client) =>
        addInvite(client, { sub, role, missions, by, seconds: days * 86_400 }),
      )
      const link = `${origin}/auth/invite?code=${secret}`
      makeIo(json === undefined ? {} : { json }).print(link, { link, sub, role, expires_at: expires_at.toISOString() })
    })
}
