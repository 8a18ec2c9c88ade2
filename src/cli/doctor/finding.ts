// A finding of the doctor: one line for each check, with advice. Checks only read. A check that can't run is a finding, too.
import { messageOf } from '../output.ts'

export type Status = 'ok' | 'warn' | 'fail'
export type Finding = { check: string; status: Status; detail: string; advice?: string }

export const ok = (check: string, detail: string): Finding => ({ check, status: 'ok', detail })
export const warn = (check: string, detail: string, advice: string): Finding => ({
  check,
  status: 'warn',
  detail,
  advice,
})
export const fail = (check: string, detail: string, advice: string): Finding => ({
  check,
  status: 'fail',
  detail,
  advice,
})

/** Lists the first few and how many more there are. */
export const few = (items: readonly string[], most = 3): string =>
  items.slice(0, most).join(', ') + (items.length > most ? ` and ${items.length - most} more` : '')

export const pooler =
  "a pooler refuses the server's startup parameters: allow them in the pooler (docs/operations.md, Connections)"

/** Returns the findings of a check. If the check rejects, that is a failed finding. */
export const runCheck = async (check: string, work: () => Promise<Finding | Finding[]>): Promise<Finding[]> => {
  try {
    return [await work()].flat()
  } catch (error) {
    const message = messageOf(error)
    const denied = (error as { code?: string }).code === '42501'
    const advice = denied
      ? 'run mission-deck doctor as the role that the server uses'
      : /startup parameter/.test(message)
        ? pooler
        : 'see the other findings first'
    return [fail(check, `can't be checked: ${message}`, advice)]
  }
}
