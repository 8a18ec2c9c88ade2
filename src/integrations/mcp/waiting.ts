// Tools that wait for somebody: `ask` for a citizen's answer, `ask_person` for a person's. A wait ends after 45 s, with a handle for
// `wait_reply`. A handle names what is waited for; the API checks the rights to it again.
import { deny } from '../../protocol/errors.ts'
import { NewRequest } from '../../protocol/requests.ts'
import { messageFields } from '../../protocol/rows.ts'
import { citizenPattern, uuidPattern } from '../../protocol/topics.ts'
import { makeCheck } from '../../protocol/check.ts'
import Type, { type Static } from '../../protocol/typebox.ts'
import { isMissing, type Api, type Row } from './api.ts'
import { Citizen, longestCall, Mission, tool } from './tool.ts'

/** A wait reads again after this time too, in seconds: a question may end without an event of its chat. */
const readAgain = 5

const uuid = Type.String({ pattern: uuidPattern })
const Handle = Type.Union([
  Type.Object({
    mission: uuid,
    citizen: Type.String({ pattern: citizenPattern }),
    question: uuid,
    seq: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER - 1 }),
  }),
  Type.Object({ mission: uuid, request: uuid }),
])
type Handle = Static<typeof Handle>
const handles = makeCheck(Handle)
const toHandle = (handle: Handle): string => Buffer.from(JSON.stringify(handle)).toString('base64url')
const fromHandle = (text: string): Handle => {
  let handle: unknown
  try {
    handle = JSON.parse(Buffer.from(text, 'base64url').toString())
  } catch {}
  if (!handles.fits(handle)) throw deny('bad_request', 'handle is invalid: use one that ask or ask_person gave')
  return handle as Handle
}

/** A wait that begins now. It ends when its time is over, the client has gone, or the server stops. */
const makeWait = ({ gone, draining }: Api) => {
  const until = performance.now() + longestCall * 1000
  /** Seconds until the end. */
  const left = (): number => (gone.aborted || draining.aborted ? 0 : Math.max(0, until - performance.now()) / 1000)
  return {
    left,
    /** Waits by `next`, but not longer than until the next read. (Timers that AbortSignal.any joins may be collected.) */
    async pause(next: (signal: AbortSignal) => Promise<void>): Promise<void> {
      const end = new AbortController()
      const stop = (): void => end.abort()
      const timer = setTimeout(stop, Math.min(readAgain, left()) * 1000)
      for (const signal of [gone, draining]) signal.addEventListener('abort', stop)
      await next(end.signal)
      clearTimeout(timer)
      for (const signal of [gone, draining]) signal.removeEventListener('abort', stop)
    },
  }
}

/** Reads what is waited for. A server that stops refuses the read: then the state is the one before. */
const readUnlessStopping = ({ draining }: Api, read: Promise<Row>, before: Row): Promise<Row> =>
  read.catch((error: unknown) => {
    if (draining.aborted) return before
    throw error
  })

type Asked = Extract<Handle, { question: string }>

/** Reads the question. Its answer is the message that its state names or, if the chat has no inbox, the citizen's next message. */
const readQuestion = async (api: Api, { mission, citizen, question, seq }: Asked): Promise<Row> => {
  const chat = `/api/missions/${mission}/chat/${citizen}`
  const messageOf = (id: string): Promise<Row | undefined> =>
    api.get(`${chat}/messages/${id}`).catch((error: unknown) => {
      if (isMissing(error)) return undefined
      throw error
    })
  const page = await api.get(`${chat}/questions`, { before: seq + 1, limit: 1 })
  const [last] = page['questions'] as Row[]
  if (last?.['id'] !== question) {
    const { messages } = await api.get(chat, { after: seq, limit: 50 })
    const answer = (messages as Row[]).find(({ sender }) => sender === 'citizen')
    if (answer !== undefined) return { state: 'answered', answer }
    // (A cleared chat has no message any more that could be answered.)
    const there = await messageOf(question)
    return there === undefined ? { state: 'closed' } : { state: 'waiting', listening: page['listening'] }
  }
  const { state } = last
  if (state !== 'answered') return { state, listening: page['listening'] }
  const answer = await messageOf((last['answer'] as { id: string }).id)
  return answer === undefined ? { state: 'closed' } : { state, answer }
}

const awaitAnswer = async (api: Api, asked: Asked): Promise<Row> => {
  const { left, pause } = makeWait(api)
  const { mission, citizen, question, seq } = asked
  const about = { question: { id: question, seq } }
  for (;;) {
    const next = await api.watch(api.actor, mission, citizen)
    const found = await readUnlessStopping(api, readQuestion(api, asked), { state: 'waiting' })
    if (found['state'] !== 'waiting' && found['state'] !== 'working') return { ...found, ...about }
    if (left() > 0) await pause(next)
    if (left() === 0) return { ...found, ...about, handle: toHandle(asked) }
  }
}

const awaitRequest = async (api: Api, mission: string, id: string): Promise<Row> => {
  const { left } = makeWait(api)
  for (;;) {
    const wait = Math.ceil(Math.min(readAgain, left()))
    const read = api.get(`/api/missions/${mission}/requests/${id}`, { wait })
    const request = await readUnlessStopping(api, read, { id, state: 'open' })
    if (request['state'] !== 'open') return { state: request['state'], request }
    if (left() === 0) return { state: 'open', request, handle: toHandle({ mission, request: id }) }
  }
}

export const ask = tool('ask', {
  roles: ['user'],
  title: 'Ask a citizen',
  description:
    `Sends a message to a citizen's chat and waits up to ${longestCall} s for the answer. Without one yet, it gives a handle: pass it to ` +
    'wait_reply. The same key sends nothing twice.',
  reads: false,
  args: Type.Object({
    mission: Mission,
    citizen: Citizen,
    message: messageFields.message,
    key: Type.Optional(Type.String({ pattern: '^[\\x20-\\x7e]{1,64}$' })),
  }),
  async run(api, { mission, citizen, ...body }) {
    const sent = await api.post(`/api/missions/${mission}/chat/${citizen}`, body)
    const { id, mission_id, seq } = sent as { id: string; mission_id: string; seq: number }
    return awaitAnswer(api, { mission: mission_id, citizen, question: id, seq })
  },
})

export const waitReply = tool('wait_reply', {
  roles: ['user', 'citizen'],
  title: 'Wait for an answer',
  description: `Waits up to ${longestCall} s more for what ask or ask_person asked. Without an answer yet, it gives the handle again.`,
  reads: true,
  args: Type.Object({ handle: Type.String({ maxLength: 1000, description: 'as ask or ask_person gave it' }) }),
  run(api, { handle }) {
    const asked = fromHandle(handle)
    return 'request' in asked ? awaitRequest(api, asked.mission, asked.request) : awaitAnswer(api, asked)
  },
})

export const askPerson = tool('ask_person', {
  roles: ['citizen'],
  title: 'Ask a person',
  description:
    `Asks people for an approval, a choice or a text, and waits up to ${longestCall} s for the answer. Without one yet, it gives a handle ` +
    'for wait_reply. With `task` the task waits for the answer without losing its lease.',
  reads: false,
  args: Type.Object({ mission: Mission, ...NewRequest.properties }),
  async run(api, { mission, ...body }) {
    const made = await api.post(`/api/missions/${mission}/requests`, body)
    return awaitRequest(api, String(made['mission_id']), String(made['id']))
  },
})
