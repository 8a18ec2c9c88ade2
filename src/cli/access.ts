// mission-deck token | revoke | unrevoke | revoked: access tokens and their revocations.
import { hostname, userInfo } from 'node:os'
import { Argument, type Command } from 'commander'
import type { Role } from '../access/actor.ts'
import { deny } from '../protocol/errors.ts'
import { count } from './arguments.ts'
import { databaseHelp, makeIo, withJson } from './output.ts'
import { ownSecret } from './secret.ts'

const roles: readonly Role[] = ['user', 'citizen', 'admin']

type Options = { json?: boolean }
type TokenOptions = Options & { missions?: string; jti?: string; seconds: number }

const change = async (verb: 'revoke' | 'unrevoke', name: string): Promise<boolean> => {
  const by = `${userInfo().username}@${hostname()}`
  const { direct, withClient } = await import('./database.ts')
  return withClient(await direct(true), async (client) => {
    const { rows } = await client.query<{ changed: boolean }>(`select deck.${verb}($1, $2) as changed`, [name, by])
    return rows[0]?.changed === true
  })
}

export const accessCommands = (program: Command): void => {
  withJson(program.command('token'))
    .description('print a token, signed with JWT_SECRET or with the secret in the .data of this folder')
    .argument('<sub>', 'user ID of the person, or name of the citizen')
    .addArgument(new Argument('<role>', 'user, citizen or admin').choices(roles))
    .option('--missions <list>', 'missions that the token gives access to, by UUID or number: 47,48; or *')
    .option('--jti <name>', 'ID of the token (jti), by which it can be revoked alone')
    .option('--seconds <n>', 'seconds until it expires', count, 86_400)
    .action(async (sub: string, role: Role, options: TokenOptions) => {
      const secret = await ownSecret()
      if (!secret) throw deny('bad_request', 'JWT_SECRET is needed: set it to the secret that the server uses.')
      const missions = options.missions === '*' ? ('*' as const) : options.missions?.split(',')
      const claims = { sub, role, ...(missions ? { missions } : {}), ...(options.jti ? { jti: options.jti } : {}) }
      const { makeTokens } = await import('../access/tokens.ts')
      const token = await makeTokens({ secret }).sign(claims, options.seconds)
      makeIo(options).print(token, { token, ...claims, expires_in: options.seconds })
    })

  withJson(program.command('revoke'))
    .description('revoke all tokens of a user ID, or one token by its jti; takes effect at once on every instance')
    .argument('<name>', 'user ID (sub), or jti of a token')
    .addHelpText('after', databaseHelp)
    .action(async (name: string, options: Options) => {
      const changed = await change('revoke', name)
      makeIo(options).print(`${name} ${changed ? 'is revoked' : 'was revoked already'}`, { name, changed })
    })

  withJson(program.command('unrevoke'))
    .description('undo a revocation')
    .argument('<name>', 'user ID (sub), or jti of a token')
    .addHelpText('after', databaseHelp)
    .action(async (name: string, options: Options) => {
      const changed = await change('unrevoke', name)
      makeIo(options).print(`${name} ${changed ? 'is no longer revoked' : 'was not revoked'}`, { name, changed })
    })

  withJson(program.command('revoked'))
    .description('list the revocations')
    .addHelpText('after', databaseHelp)
    .action(async (options: Options) => {
      const io = makeIo(options)
      const { direct, withClient } = await import('./database.ts')
      const { rows } = await withClient(await direct(true), (client) =>
        client.query<{ name: string; by: string; at: string }>(
          'select name, by, at from deck.revocations where expires_at is null order by id',
        ),
      )
      if (io.json) io.print('', rows)
      else for (const { name, by, at } of rows) io.write(`${at}  ${name}  (by ${by})\n`)
    })
}
