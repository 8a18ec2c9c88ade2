// Handlers of a citizen's tasks: messages that users sent to it, and test runs.
import type { Request } from '../protocol/requests.ts'
import type { Message, TestRun } from '../protocol/rows.ts'
import type { Ask } from './ask-people.ts'
import { DeckError } from './errors.ts'
import type { Writer } from './reply-writer.ts'
import type { RunHandler } from './run-job.ts'

/** `signal` is aborted when the reply is cancelled, when another worker may have the task, and when `answer` ends. */
export type Reply = Writer & {
  /** 1 at first; higher if the task was released or its lease ended before */
  readonly attempt: number
  /** the request to people that ended while a former worker had the task */
  readonly request: Request | undefined
  /**
   * Asks people, and resolves to the answer. The task waits meanwhile: it takes none of the concurrency, and no other worker gets it. Rejects
   * with `expired` or `withdrawn` if the request ended without an answer.
   */
  ask(request: Ask): Promise<boolean | string>
}
/** Writes a reply or returns one. A handler that does neither ends the task without a reply. */
export type Handler = (message: Message, reply: Reply) => Promise<string | void> | string | void
export type AnswerOptions = {
  /** concurrent tasks, messages and runs together; 4 if left out, 1 for runs only */
  concurrency?: number
  /** works test runs, too */
  run?: RunHandler
  /** ends the answering; unfinished tasks are released at once */
  signal?: AbortSignal
}
export type Task = { task: string; topic: string; message?: Message; run?: TestRun; attempt: number; request?: Request }
/** The handlers of a citizen's tasks, by kind. */
export type Handlers = { message?: Handler | undefined; run?: RunHandler | undefined }

/** How a task is worked: `act` runs its handler, `end` ends it with the result, `drop` discards what was written. */
export type Steps<T> = {
  act: () => Promise<T>
  end: (result: T | undefined) => Promise<unknown>
  drop: () => Promise<void>
}

/** Seconds until a released task is delivered again, by its number of attempts. */
export const retryDelay = (attempt: number): number => Math.min(300, 2 ** attempt)
/** Whether the error means that another worker has the task, or that it no longer exists. */
export const lost = (error: unknown): boolean =>
  error instanceof DeckError && ['conflict', 'not_found', 'closed'].includes(error.code)
