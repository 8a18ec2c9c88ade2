// The exact JSON forms of the contract. A RegExp accepts strings that match it, a function accepts values for which it
// returns true, and any other value must be equal. Missing and additional members are faults.
import type { Test } from 'tap'
import type { Answer, Json } from './server.ts'

export const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$/
export const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
export const some = /^[^]+$/

export const isForm = (t: Test, value: unknown, form: Json, what: string): boolean => {
  const given = (typeof value === 'object' && value !== null ? value : {}) as Json
  const expected = Object.entries(form).map(([name, want]) => {
    const is = given[name]
    const fits =
      want instanceof RegExp
        ? typeof is === 'string' && want.test(is)
        : typeof want === 'function'
          ? (want as (value: unknown) => boolean)(is)
          : undefined
    return [name, fits === undefined ? want : fits ? is : `something like ${String(want)}`] as const
  })
  return t.strictSame(value, Object.fromEntries(expected), what)
}

/** Asserts that an answer is an error of the contract's form, with this status and code. */
export const refused = (t: Test, { status, headers, json, text }: Answer, want: number, code: string, what = '') => {
  const ok = isForm(t, { status, ...json }, { status: want, code, detail: some }, `${what} is ${want} ${code}`)
  t.match(headers.get('content-type'), /^application\/json/, text.slice(0, 200))
  return ok
}

export const missionForm = (more: Json): Json => ({
  id: uuid,
  number: Number.isInteger,
  title: 'Telegram Notifier',
  client: 'Acme Corp',
  budget: 300,
  deadline: '2030-01-01T00:00:00Z',
  status: 'active',
  assigned_to: 'alice',
  github_url: null,
  created_at: time,
  seq: 0,
  ...more,
})

export const messageForm = (more: Json): Json => ({
  id: uuid,
  mission_id: uuid,
  citizen: 'rafael',
  sender: 'user',
  author: 'alice',
  message: 'hello',
  code_blocks: null,
  created_at: time,
  seq: 1,
  key: null,
  in_reply_to: null,
  ...more,
})

export const itemForm = (more: Json): Json => ({
  id: uuid,
  mission_id: uuid,
  text: 'Works',
  category: 'functional',
  completed: false,
  completed_at: null,
  seq: 1,
  ...more,
})

export const runForm = (more: Json): Json => ({
  id: uuid,
  mission_id: uuid,
  status: 'running',
  summary: null,
  results: null,
  created_at: time,
  seq: 1,
  ...more,
})
