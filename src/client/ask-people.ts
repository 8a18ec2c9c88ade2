// A reply that asks people: the task waits for the answer, and nobody else gets it meanwhile.
import type { NewRequest, Request } from '../protocol/requests.ts'
import { abortable, backoff, sleep } from './async.ts'
import { DeckError, isPassing } from './errors.ts'
import type { Link } from './link.ts'
import type { makeRequests } from './resources.ts'

export type Ask = {
  /** `approve` is answered with a boolean, `choose` with one of the options, `text` with a text */
  kind: NewRequest['kind']
  title: string
  /** Markdown */
  body?: string
  options?: string[]
  /** seconds; a day if left out */
  expiresIn?: number
}

/** Seconds of one read that waits. */
const wait = 50

export const makeAsk =
  (link: Link, requestsOf: (mission: string) => ReturnType<typeof makeRequests>) =>
  /**
   * Asks people about a task, and resolves to the answer. Rejects with `expired` or `withdrawn` if the request ended without one, and with
   * the signal's reason once that is aborted; a request of a cancelled reply is withdrawn.
   */
  async (
    { topic, task }: { topic: string; task: string },
    { expiresIn, ...asked }: Ask,
    signal: AbortSignal,
  ): Promise<boolean | string> => {
    const requests = requestsOf(topic.split('/')[1] ?? '')
    const signals = AbortSignal.any([signal, link.ended])
    let request: Request = await abortable(
      requests.make({ ...asked, task, ...(expiresIn === undefined ? {} : { expires_in: expiresIn }) }),
      signals,
    )
    const { id } = request
    const isCancelled = (): boolean => signal.reason instanceof DeckError && signal.reason.code === 'cancelled'
    for (let faults = 0; request.state === 'open';) {
      try {
        request = await requests.get(id, { wait, signal: signals })
        faults = 0
      } catch (error) {
        if (isCancelled()) await requests.withdraw(id).catch(() => {})
        if (signals.aborted || !isPassing(error)) throw error
        await sleep(backoff(++faults), signals)
      }
    }
    if (request.state === 'answered' && request.answer !== null) return request.answer
    throw new DeckError(
      request.state === 'withdrawn' ? 'withdrawn' : 'expired',
      `the request was not answered: ${request.title}`,
    )
  }
export type AskPeople = ReturnType<typeof makeAsk>
