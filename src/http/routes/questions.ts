// Questions of a chat: a page of them, and what a user may do with one: try again, cancel.
import type { FastifyInstance } from 'fastify'
import { allow } from '../../access/policy.ts'
import type { Questions } from '../../database/questions.ts'
import type { UserRate } from '../../live/connections/user-rate.ts'
import { Question, questionStates } from '../../protocol/rows.ts'
import { formatTopic } from '../../protocol/topics.ts'
import Type, { type Static } from '../../protocol/typebox.ts'
import { actorOf } from '../plugins/authenticate.ts'
import { json, Limit } from '../plugins/negotiation.ts'
import { named } from '../plugins/validation.ts'
import { describe } from './openapi.ts'

/** Asks the holder of a task to stop. */
export type CancelTask = (cancel: { topic: string; task: string; holder: string; by: string }) => Promise<void>

const QuestionsQuery = Type.Object({
  state: Type.Optional(Type.Enum(questionStates, { description: 'only questions in this state' })),
  before: Type.Optional(
    Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description: 'only questions below this seq' }),
  ),
  limit: Limit,
})
const QuestionPage = Type.Object({
  questions: Type.Array(Question, { description: 'by ascending seq: the newest below `before`' }),
  listening: Type.Boolean({ description: 'something has worked for the citizen within the last 60 s' }),
  has_more: Type.Boolean({ description: 'older questions follow: pass the first seq as `before`' }),
})

export const questionRoutes = (
  app: FastifyInstance,
  { questions, rate, cancelTask }: { questions: Questions; rate: UserRate; cancelTask: CancelTask },
): void => {
  const list = '/api/missions/:mission/chat/:citizen/questions'

  app.get<{ Querystring: Static<typeof QuestionsQuery> }>(
    list,
    {
      schema: describe(
        'chat',
        "A chat's questions to the citizen and their states, newest last",
        ['mission', 'citizen'],
        { 200: QuestionPage },
        {
          querystring: QuestionsQuery,
          description:
            'waiting: nobody has it. working: leased until `until`. answered, closed: it ended with or without a reply. failed: its five ' +
            'attempts are used up. A subscription with `questions: true` receives each change as a `question` frame.',
        },
      ),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      const { mission: ref, citizen } = named(request)
      const { state, before, limit = 50 } = request.query
      const { mission, ...page } = await questions.page(ref, citizen, { state, before, limit })
      allow(actor, 'read', mission)
      return json(reply, JSON.stringify(page))
    },
  )

  app.post(
    `${list}/:question/retry`,
    {
      schema: describe(
        'chat',
        'Let a failed question wait again, from attempt 0 (user, admin)',
        ['mission', 'citizen', 'question'],
        { 200: Question },
        { description: 'A question in another state is `conflict`. It counts as a message of the user.' },
      ),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      const { mission, citizen, question } = named(request)
      // (A transaction that is tried again checks the rights again; the message counts once.)
      let counted = false
      const changed = await questions.retry(
        mission,
        (m) => {
          allow(actor, 'question.change', m)
          if (!counted) rate.take(actor)
          counted = true
        },
        citizen,
        question,
      )
      return json(reply, JSON.stringify(changed))
    },
  )

  app.post(
    `${list}/:question/cancel`,
    {
      schema: describe(
        'chat',
        'Close a waiting question, or ask the holder of a working one to stop (user, admin)',
        ['mission', 'citizen', 'question'],
        { 200: Question },
        {
          description:
            'A working question stays so until its holder ends it: a socket gets `cancel`, a worker over HTTP `cancelled: true`. A question ' +
            'that has ended is `conflict`.',
        },
      ),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      const { mission, citizen, question: id } = named(request)
      const changed = await questions.cancel(mission, (m) => allow(actor, 'question.change', m), citizen, id)
      const { holder, question } = changed
      const topic = formatTopic({ kind: 'chat', mission: { id: changed.mission }, citizen }, changed.mission)
      if (holder !== null) await cancelTask({ topic, task: question.id, holder, by: actor.sub })
      return json(reply, JSON.stringify(question))
    },
  )
}
