// mission-deck requests | answer: what citizens ask people, from the command line.
import type { Command } from 'commander'
import type { Request } from '../protocol/requests.ts'
import { requestStates } from '../protocol/requests.ts'
import { mission } from './arguments.ts'
import { plain, Usage, type Io } from './output.ts'
import { withDeck, withServer, type RemoteOptions } from './server-connection.ts'

type ListOptions = RemoteOptions & { state: string; follow?: boolean }

/** `all`: names the mission, because requests of several are printed. */
const print = (io: Io, request: Request, all = false): void => {
  const { id, mission_id, citizen, kind, title, body, options, state, answer, answered_by, expires_at } = request
  if (io.json) return io.print('', request)
  const ended = state === 'answered' ? `${JSON.stringify(answer)} by ${answered_by ?? 'SQL'}` : state
  io.write(
    `${all ? `${mission_id}  ` : ''}${id}  ${citizen}  ${kind}  ${state === 'open' ? `until ${expires_at}` : ended}\n  ${plain(title)}\n`,
  )
  if (body !== null) io.write(`  ${plain(body).replace(/\n/g, '\n  ')}\n`)
  for (const option of options ?? []) io.write(`  - ${plain(option)}\n`)
}

type Page = { requests: Request[]; next: string | null }
/** Reads all pages. */
const readAll = async (page: (where: { cursor?: string }) => Promise<Page>): Promise<Request[]> => {
  const known: Request[] = []
  for (let cursor: string | null | undefined; cursor !== null;) {
    const { requests, next } = await page(cursor === undefined ? {} : { cursor })
    known.push(...requests)
    cursor = next
  }
  return known
}

/** Returns the answer that a text means for a request of this kind. */
const answerOf = ({ kind }: Request, text: string): boolean | string => {
  if (kind !== 'approve') return text
  if (!/^(yes|no)$/i.test(text)) throw new Usage('the answer to this request is yes or no')
  return text.toLowerCase() === 'yes'
}

export const requestCommands = (program: Command): void => {
  withServer(program.command('requests'))
    .description('list what citizens ask people')
    .argument('[mission]', 'number or UUID of the mission; without it, the open requests of all missions', mission)
    .option('--state <state>', `only requests of this state: ${requestStates.join(', ')}, or all`, 'open')
    .option('-f, --follow', 'then print each new or changed request, until interrupted')
    .action(async (mission: string | undefined, options: ListOptions) => {
      const { state } = options
      if (state !== 'all' && !(requestStates as readonly string[]).includes(state))
        throw new Usage(`--state takes ${requestStates.join(', ')} or all`)
      if (mission === undefined && (options.follow || state !== 'open'))
        throw new Usage('--follow and --state need a mission')
      await withDeck(options, async ({ deck, io, signal }) => {
        if (mission === undefined) {
          const known = await readAll((where) => deck.openRequests({ ...where, signal }))
          for (const request of known) print(io, request, true)
          if (known.length === 0) io.note('no open requests')
          return
        }
        const requests = deck.requests(mission)
        const feed = options.follow ? requests.follow({ signal }) : undefined
        await feed?.ready
        const of = state === 'all' ? {} : { state: state as Request['state'] }
        const known = await readAll((where) => requests.list({ ...of, ...where, signal }))
        for (const request of known.reverse()) print(io, request)
        if (known.length === 0) io.note(state === 'all' ? 'no requests' : `no ${state} requests`)
        if (feed)
          for await (const event of feed)
            if ('data' in event && (state === 'all' || event.data.state === state)) print(io, event.data)
      })
    })

  withServer(program.command('answer'))
    .description('answer a request; the first answer counts')
    .argument('<mission>', 'number or UUID of the mission', mission)
    .argument('<request>', 'id of the request')
    .argument('<answer>', 'yes or no, one of the options, or a text, by the kind of request')
    .action(async (mission: string, id: string, text: string, options: RemoteOptions) => {
      await withDeck(options, async ({ deck, io, signal }) => {
        const requests = deck.requests(mission)
        const answered = await requests.answer(id, answerOf(await requests.get(id, { signal }), text), { signal })
        io.print(`answered: ${plain(answered.title)}`, answered)
      })
    })
}
