// mission-deck questions | retry | cancel: what became of a chat's questions, and what a user may do with one.
import type { Deck } from '../client/index.ts'
import { deny } from '../protocol/errors.ts'
import type { Question } from '../protocol/rows.ts'
import type { Colour, Io } from './output.ts'
import { withDeck, type RemoteOptions } from './server-connection.ts'

export type QuestionsOptions = RemoteOptions & { state?: Question['state']; before?: number; limit: number }

const colours: Record<Question['state'], Colour> = {
  waiting: 'yellow',
  working: 'blue',
  answered: 'green',
  closed: 'dim',
  failed: 'red',
}

const print = (io: Io, question: Question): void => {
  const { seq, state, attempt, since, until, answer } = question
  const more = [
    ...(attempt > 0 ? [`attempt ${attempt}`] : []),
    ...(until === null ? [] : [`until ${until}`]),
    ...(answer === null ? [] : [`reply #${answer.seq}`]),
  ]
  io.print([`#${seq}`, io.paint(colours[state], state.padEnd(8)), `since ${since}`, ...more].join('  '), question)
}

export const questions = (mission: string, citizen: string, options: QuestionsOptions): Promise<void> =>
  withDeck(options, async ({ deck, io, signal }) => {
    const { state, before, limit } = options
    const page = await deck.chat(mission, citizen).questions({
      limit,
      signal,
      ...(state === undefined ? {} : { state }),
      ...(before === undefined ? {} : { before }),
    })
    if (io.json) return io.print('', page)
    for (const question of page.questions) print(io, question)
    if (page.questions.length === 0) io.note('no questions')
    if (page.has_more) io.note(`older ones: --before ${page.questions[0]?.seq}`)
    if (!page.listening) io.note(`${citizen} is not connected`)
  })

/** Returns the ID of a question that is named by its seq or its ID. */
const idOf = async (chat: ReturnType<Deck['chat']>, name: string, signal: AbortSignal): Promise<string> => {
  const seq = Number(name)
  if (Number.isNaN(seq)) return name
  const [found] = (await chat.questions({ before: seq + 1, limit: 1, signal })).questions
  if (found?.seq !== seq) throw deny('not_found', `#${seq} is not a question of this chat`)
  return found.id
}

export const change = (
  verb: 'retry' | 'cancel',
  mission: string,
  citizen: string,
  name: string,
  options: RemoteOptions,
): Promise<void> =>
  withDeck(options, async ({ deck, io, signal }) => {
    const chat = deck.chat(mission, citizen)
    const id = await idOf(chat, name, signal)
    print(io, verb === 'retry' ? await chat.retry(id, { signal }) : await chat.cancelQuestion(id, { signal }))
  })
