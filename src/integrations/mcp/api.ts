// Tools call the server's own API in the same process, with the caller's token: rights, validation, limits and the audit are the API's.
import type { FastifyInstance } from 'fastify'
import type { Actor } from '../../access/actor.ts'
import { deny, errorCodes, Refusal, type ErrorCode } from '../../protocol/errors.ts'

export type Row = Record<string, unknown>
export type Query = Record<string, string | number | undefined>
/** Returns a function that waits for the chat's next event after this call. */
export type Watch = (actor: Actor, mission: string, citizen: string) => Promise<(signal: AbortSignal) => Promise<void>>

/** Who calls a tool, and how long the answer is still wanted. */
export type Caller = {
  actor: Actor
  /** the header Authorization */
  authorization: string
  address: string
  /** aborted if the client disconnects before its response */
  gone: AbortSignal
}
export type Parts = {
  inject: FastifyInstance['inject']
  watch: Watch
  /** aborted when the server stops */
  draining: AbortSignal
}
export type Api = Caller & {
  watch: Watch
  draining: AbortSignal
  get(path: string, query?: Query): Promise<Row>
  post(path: string, body: Row | string, headers?: Record<string, string>): Promise<Row>
  patch(path: string, body: Row): Promise<Row>
}

const queryOf = (query: Query): string => {
  const given = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) if (value !== undefined) given.set(name, String(value))
  return given.size === 0 ? '' : `?${given.toString()}`
}
const isCode = (code: unknown): code is ErrorCode => errorCodes.some((known) => known === code)

export const makeApi = ({ inject, watch, draining }: Parts, caller: Caller): Api => {
  const call = async (
    method: 'GET' | 'POST' | 'PATCH',
    url: string,
    payload?: Row | string,
    headers: Record<string, string> = {},
  ): Promise<Row> => {
    const { statusCode, payload: text } = await inject({
      method,
      url,
      remoteAddress: caller.address,
      headers: {
        authorization: caller.authorization,
        ...(typeof payload === 'string' ? { 'content-type': 'text/plain' } : {}),
        ...headers,
      },
      ...(payload === undefined ? {} : { payload }),
    })
    const body = (text === '' ? {} : JSON.parse(text)) as Row
    if (statusCode < 400) return body
    const { code, detail, error_id, retry_after } = body
    throw deny(isCode(code) ? code : 'internal', typeof detail === 'string' ? detail : undefined, {
      ...(typeof error_id === 'string' ? { error_id } : {}),
      ...(typeof retry_after === 'number' ? { retry_after } : {}),
    })
  }
  return {
    ...caller,
    watch,
    draining,
    get: (path, query = {}) => call('GET', path + queryOf(query)),
    post: (path, body, headers) => call('POST', path, body, headers),
    patch: (path, body) => call('PATCH', path, body),
  }
}

export const isMissing = (error: unknown): boolean => error instanceof Refusal && error.code === 'not_found'
