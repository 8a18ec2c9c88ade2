// Tools of a citizen at work: it claims a task, replies to it or gives it back, and reports test runs.
import { deny } from '../../protocol/errors.ts'
import { NewClaim, NewReply, Release } from '../../protocol/inbox.ts'
import { NewTestRun } from '../../protocol/rows.ts'
import Type from '../../protocol/typebox.ts'
import type { Api, Row } from './api.ts'
import { Citizen, Id, longestCall, Mission, TaskKinds, tool } from './tool.ts'

const roles = ['citizen'] as const
/** A claim waits for at most this many seconds at a time, so that a client that has gone is noticed. */
const slice = 5
/** Seconds: an agent thinks for minutes, and has no tool that renews a lease. */
const usualLease = 600

const whose = ({ actor }: Api, citizen: string | undefined): string => {
  if (citizen !== undefined) return citizen
  if (actor.role !== 'citizen') throw deny('bad_request', 'arguments.citizen is missing')
  return actor.sub
}

export const claimTask = tool('claim_task', {
  roles,
  title: 'Claim a task',
  description:
    'Claims the oldest open task of your inbox: a question, or a test run to do. Without one it waits up to `wait` seconds; task is null ' +
    'if no task is open. Answer it by reply with its task and claim (a run: by report_run) within `lease` seconds.',
  reads: false,
  args: Type.Object({
    citizen: Type.Optional(Citizen),
    kinds: Type.Optional(TaskKinds),
    wait: Type.Optional(Type.Number({ minimum: 0, maximum: longestCall, default: 0, description: 'seconds' })),
    lease: Type.Optional(Type.Integer({ ...NewClaim.properties.lease, default: usualLease })),
  }),
  async run(api, { citizen, wait = 0, lease = usualLease, kinds }) {
    const inbox = `/api/inbox/${whose(api, citizen)}`
    const until = performance.now() + wait * 1000
    for (;;) {
      const left = Math.max(0, (until - performance.now()) / 1000)
      const body = { credit: 1, wait: Math.min(slice, left), lease, ...(kinds ? { kinds } : {}) }
      const { tasks } = await api.post(`${inbox}/claim`, body)
      const [task] = tasks as Row[]
      if (task) {
        const release = (): void =>
          void api.post(`${inbox}/tasks/${String(task['task'])}/release`, { claim: task['claim'] }).catch(() => {
            // (Its lease runs out.)
          })
        if (api.gone.aborted) release()
        else api.gone.addEventListener('abort', release)
        return { task }
      }
      if (left === 0 || api.gone.aborted || api.draining.aborted) return { task: null }
    }
  },
})

export const reply = tool('reply', {
  roles,
  title: 'Reply to a task',
  description:
    'Replies to the question of a claimed task and ends the task. With `release: true` the task is given back instead, and can be claimed ' +
    'again after `after` seconds.',
  reads: false,
  args: Type.Object({
    task: Id,
    citizen: Type.Optional(Citizen),
    ...NewReply.properties,
    release: Type.Optional(Type.Boolean()),
    after: Release.properties.after,
  }),
  async run(api, { task, citizen, claim, release = false, after, ...body }) {
    const path = `/api/inbox/${whose(api, citizen)}/tasks/${task}`
    if (!release) {
      if (after !== undefined) throw deny('bad_request', 'arguments.after needs release: true')
      return { message: await api.post(`${path}/reply`, { claim, ...body }) }
    }
    if (Object.keys(body).length > 0) throw deny('bad_request', 'a task is either released or replied to')
    await api.post(`${path}/release`, { claim, ...(after === undefined ? {} : { after }) })
    return { released: task }
  },
})

export const reportRun = tool('report_run', {
  roles,
  title: 'Report a test run',
  description:
    'Creates a test run or, with `run`, changes it: its status, summary and results; `logs` is appended to its log. A run that was claimed ' +
    'as a task ends with its status passed or failed.',
  reads: false,
  args: Type.Object({ mission: Mission, run: Type.Optional(Id), ...NewTestRun.properties }),
  async run(api, { mission, run, logs, ...body }) {
    const runs = `/api/missions/${mission}/tests`
    if (run === undefined) return { run: await api.post(runs, logs == null ? body : { ...body, logs }) }
    if (logs) await api.post(`${runs}/${run}/logs`, logs)
    const changes = Object.keys(body).length > 0
    if (!changes && !logs) throw deny('bad_request', 'nothing to report: give status, summary, results or logs')
    return { run: changes ? await api.patch(`${runs}/${run}`, body) : await api.get(`${runs}/${run}`) }
  },
})
