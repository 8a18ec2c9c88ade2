// work { id, credit, kinds?, resume? }: a citizen asks for up to `credit` open tasks at a time on this socket. `resume` names one of its
// former sessions (welcome.session): this socket takes over that session's tasks. ok { credit, tasks }: the tasks taken over.
// done { id, task }: ends a task without a reply. release { id, task, after? }: returns it to the queue, not before `after` seconds.
import type { Actor } from '../access/actor.ts'
import type { Inboxes } from '../live/inbox.ts'
import type { Handlers, Session } from '../live/connections/session.ts'
import type { Entry, Written } from '../database/write/pending-message.ts'
import type { Tasks } from '../database/inbox.ts'
import type { Writer } from '../database/write/writer.ts'
import { deny, Refusal } from '../protocol/errors.ts'
import type { FrameId } from '../protocol/client-frames.ts'
import type { Message } from '../protocol/rows.ts'

/** Throws `forbidden` if the actor is not a citizen: only citizens have an inbox. */
export const allowWork = ({ role }: Actor): void => {
  if (role !== 'citizen') throw deny('forbidden', 'only citizens have an inbox')
}

/** A run's task ends with the run: the run's status is what the holder reports. */
export const unfinished = (): Refusal =>
  deny('conflict', 'the task is a run: finish it with PATCH, status passed or failed, or release it')
/** Throws `conflict` if the socket holds the task, and it is a run that has not ended. The socket keeps it. */
const refuseRun = async (tasks: Tasks, task: string, { id }: Session): Promise<void> => {
  if (await tasks.holdsRun(task, id)) throw unfinished()
}

export const makeReplies = (writer: Writer, tasks: Tasks, inboxes: Inboxes) => {
  /** Ends the task that a message names, if the socket holds it. Used if the message, `reply`, was already saved. */
  const end = async (session: Session, named: string, reply: string): Promise<void> => {
    const task = named.toLowerCase()
    if (!(await tasks.answer({ task, holder: session.id, reply }))) await refuseRun(tasks, task, session)
    inboxes.ended(session, task)
  }
  /** Writes a message and ends the task that it names, if any, in one transaction. */
  const write = async (session: Session, entry: Entry, named: string | undefined, since?: number): Promise<Written> => {
    if (named === undefined) return writer.append(entry, since)
    const task = named.toLowerCase()
    try {
      const written = await writer.append({ ...entry, task: { id: task, holder: session.id } }, since)
      if (written.seen) await end(session, task, (JSON.parse(written.message) as Message).id)
      else inboxes.ended(session, task)
      return written
    } catch (error) {
      if (error instanceof Refusal && error.code === 'conflict') {
        await refuseRun(tasks, task, session)
        inboxes.ended(session, task)
      }
      throw error
    }
  }
  return { write, end, active: inboxes.active }
}
export type Replies = ReturnType<typeof makeReplies>

export const makeInbox = (tasks: Tasks, inboxes: Inboxes): Pick<Handlers, 'work' | 'done' | 'release'> => {
  const end = async (session: Session, id: FrameId, named: string, by: (task: string) => Promise<boolean>) => {
    allowWork(session.actor)
    const task = named.toLowerCase()
    await session.inTurn(Promise.resolve())
    const ended = await by(task)
    if (!ended) await refuseRun(tasks, task, session)
    inboxes.ended(session, task)
    if (!ended) throw deny('conflict', 'this socket does not hold the task')
    session.ok(id, { task })
  }
  return {
    async work(session, { id, credit, resume, kinds = ['message'] }) {
      const { actor } = session
      allowWork(actor)
      // In turn: the next frame of the socket may end one of the resumed tasks.
      const held = await session.inTurn(
        inboxes
          .open(session, kinds)
          .then(() => (resume === undefined ? [] : tasks.resume(actor.sub, resume, session.id))),
      )
      if (session.closed) return
      session.ok(id, { credit, tasks: held })
      inboxes.work(session, { credit, kinds }, held)
    },
    done: (session, { id, task: named }) => end(session, id, named, (task) => tasks.end({ task, holder: session.id })),
    release: (session, { id, task: named, after = 0 }) =>
      end(session, id, named, (task) => tasks.release({ task, holder: session.id, after })),
  }
}
