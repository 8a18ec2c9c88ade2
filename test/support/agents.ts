// Agents that work for a citizen, by either door: a socket, or claims over HTTP.
import type { Test } from 'tap'
import { until, type Instance, type Json } from './server.ts'

export type Task = {
  task: string
  topic: string
  kind: string
  attempt: number
  lease_until: string
  message: { id: string; seq: number; message: string }
  /** over HTTP only */
  claim?: string
}
export type Agent = {
  /** tasks received, in order */
  tasks: Task[]
  /** The result of a call: `ok`, or the code of the error. */
  reply(task: Task, message?: string): Promise<string>
  draft(task: Task, delta: string): Promise<string>
  done(task: Task): Promise<string>
  release(task: Task, after?: number): Promise<string>
  /** Takes no more tasks, and keeps those that it has without renewing them. */
  vanish(): Promise<void>
}
/** Starts an agent that takes up to `credit` tasks at a time. */
export type StartAgent = (t: Test, on: Instance, bearer: string, citizen: string, credit: number) => Promise<Agent>

const codeOf = ({ type, code }: Json): string => (type === 'ok' ? 'ok' : String(code))

const bySocket: StartAgent = async (t, on, bearer, _citizen, credit) => {
  const client = await on.connect(bearer)
  t.match(await client.ask({ type: 'work', credit }), { type: 'ok', credit })
  const ask = async (frame: Json): Promise<string> => codeOf(await client.ask(frame))
  return {
    get tasks() {
      return client.frames.filter(({ type }) => type === 'task') as unknown as Task[]
    },
    reply: ({ task, topic }, message) =>
      message === undefined
        ? ask({ type: 'stream', topic, key: `task:${task}`, done: true, task })
        : ask({ type: 'send', topic, message, task }),
    draft: ({ task, topic }, delta) => ask({ type: 'stream', topic, key: `task:${task}`, delta }),
    done: ({ task }) => ask({ type: 'done', task }),
    release: ({ task }, after) => ask({ type: 'release', task, ...(after === undefined ? {} : { after }) }),
    async vanish() {
      client.socket.terminate()
      await until(() => client.closed !== undefined, 'the socket to close')
    },
  }
}

const byHttp: StartAgent = async (t, on, bearer, citizen, credit) => {
  const tasks: Task[] = []
  const held = new Set<string>()
  const stop = new AbortController()
  let changed = (): void => {}
  const claim = async (): Promise<void> => {
    const response = await fetch(`${on.url}/api/inbox/${citizen}/claim`, {
      method: 'POST',
      headers: { authorization: `Bearer ${bearer}`, 'content-type': 'application/json' },
      body: JSON.stringify({ credit: credit - held.size, wait: 50 }),
      signal: stop.signal,
    })
    if (response.status !== 200) throw new Error(await response.text())
    const answer = (await response.json()) as { tasks: Task[] }
    for (const task of answer.tasks) {
      held.add(task.task)
      tasks.push(task)
    }
  }
  const loop = async (): Promise<void> => {
    while (!stop.signal.aborted)
      if (held.size < credit) await claim()
      else await new Promise<void>((resolve) => (changed = resolve))
  }
  if (credit > 0) {
    const over = loop().catch((error: unknown) => {
      if (!stop.signal.aborted && !/ECONN|terminated|fetch failed|restarting/.test(String(error))) t.fail(String(error))
    })
    t.teardown(async () => {
      stop.abort()
      changed()
      await over
    })
    // The citizen's inbox exists, as after the answer to `work`.
    await until(
      async () => (await on.request('GET', `/api/inbox/${citizen}`, bearer)).json['listening'] === true,
      'the first claim',
    )
  }
  const post = async (task: Task, path: string, body: Json): Promise<string> => {
    const { status, json } = await on.request('POST', `/api/inbox/${citizen}/tasks/${task.task}/${path}`, bearer, {
      claim: task.claim,
      ...body,
    })
    return status < 300 ? 'ok' : String(json['code'])
  }
  const last = async (task: Task, path: string, body: Json): Promise<string> => {
    const result = await post(task, path, body)
    held.delete(task.task)
    changed()
    return result
  }
  return {
    tasks,
    reply: (task, message) => last(task, 'reply', message === undefined ? {} : { message }),
    draft: (task, delta) => post(task, 'draft', { delta }),
    done: (task) => last(task, 'done', {}),
    release: (task, after) => last(task, 'release', after === undefined ? {} : { after }),
    vanish() {
      stop.abort()
      changed()
      return Promise.resolve()
    },
  }
}

export const doors: [name: string, start: StartAgent][] = [
  ['socket', bySocket],
  ['HTTP', byHttp],
]
