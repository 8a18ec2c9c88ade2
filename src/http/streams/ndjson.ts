// NDJSON streams, with Accept: application/x-ndjson: a chat's history, a mission's timeline.
// A stream contains everything up to its start, or the connection is reset: an incomplete response never looks complete. Rights are
// checked with every page, in the page's snapshot. A page is read only after the previous one has left this process, so a slow
// reader costs one page of memory and no database connection.
import type { ServerResponse } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Tokens } from '../../access/tokens.ts'
import { allow } from '../../access/policy.ts'
import type { ReplayPage } from '../../database/read/replay-page.ts'
import { deny, overloaded } from '../../protocol/errors.ts'
import type { MissionRights } from '../../protocol/rows.ts'
import { actorOf } from '../plugins/authenticate.ts'
import { codingOf, flushOf, packer, varies, type Coding } from '../plugins/compression.ts'
import { lines, streamed } from '../plugins/negotiation.ts'

// A page of 256 KiB of text has up to 1.5 MiB as JSON with escapes: 64 streams together hold at most 100 MiB.
export const most = 64
const mostOfOne = 16

/** Resets a connection, so that the client can't mistake it for the response's end, also over HTTP/1.0. */
export const reset = ({ socket }: ServerResponse): void => void socket?.resetAndDestroy()

/** Sends a text by `give`. Resolves once the response's buffer has drained. Rejects if it does not within `patience` ms. */
const handOver = (raw: ServerResponse, patience: number, give: (given: () => void) => void): Promise<void> =>
  new Promise((resolve, reject) => {
    let given = false
    const done = (error?: Error) => (): void => {
      clearTimeout(timer)
      raw.off('drain', check).off('close', closed)
      if (error) reject(error)
      else resolve()
    }
    const check = (): void => {
      if (given && !raw.writableNeedDrain) done()()
    }
    const closed = done(new Error('the client disconnected'))
    const timer = setTimeout(done(new Error('the client stopped reading')), patience)
    raw.on('drain', check).on('close', closed)
    if (raw.destroyed) return closed()
    give(() => {
      given = true
      check()
    })
  })

/** Writes pages and the end of a stream; `given` is called once a page is passed on. */
type Way = { give(text: string, given: () => void): void; end(): void }

const plain = (raw: ServerResponse): Way => ({
  give(text, given) {
    if (text !== '') raw.write(text)
    given()
  },
  end: () => void raw.end(),
})

/** Compresses each page and flushes it, so the client can read the whole page at once. */
const compressed = (raw: ServerResponse, coding: Coding): Way => {
  const stream = packer(coding)
  // If compression fails, the response is incomplete.
  stream.on('error', () => reset(raw))
  raw.once('close', () => stream.destroy())
  stream.pipe(raw)
  return {
    give(text, given) {
      if (text === '') return given()
      stream.write(text)
      stream.flush(flushOf(coding), given)
    },
    end: () => void stream.end(),
  }
}

/** Writes a text uncompressed. Resolves once the response's buffer has drained. Rejects if it does not within `patience` ms. */
export const write = (raw: ServerResponse, text: string, patience: number): Promise<void> =>
  handOver(raw, patience, (given) => plain(raw).give(text, given))

/** An encoded page; `next` reads the following one. `mission` is undefined if it does not exist (any more). */
export type Lines = { mission: MissionRights | undefined; text: string; next?: () => Promise<Lines> }

/** The lines of a chat's messages. */
export const toLines = ({ mission, messages, next }: ReplayPage): Lines => ({
  mission,
  text: messages.map((message) => `${JSON.stringify(message)}\n`).join(''),
  ...(next ? { next: async () => toLines(await next()) } : {}),
})

/** `holds`: whether a token is still valid; `patience`: ms within which the client must read a page. */
export const makeStreams = (
  app: FastifyInstance,
  { holds, patience }: { holds: Tokens['holds']; patience: number },
) => {
  const open = new Map<ServerResponse, string>()
  // A stop has already waited for these streams, as for any request.
  app.addHook('preClose', (done) => {
    for (const raw of open.keys()) reset(raw)
    done()
  })

  const stream = async (
    raw: ServerResponse,
    coding: Coding | undefined,
    first: Lines,
    check: (page: Lines) => void,
  ): Promise<void> => {
    const { give, end } = coding === undefined ? plain(raw) : compressed(raw, coding)
    const send = ({ text }: Lines): Promise<void> => handOver(raw, patience, (given) => give(text, given))
    await send(first)
    for (let { next } = first; next;) {
      const page = await next()
      check(page)
      await send(page)
      next = page.next
    }
    end()
  }

  /** `begin` reads the first page. If it throws, the error is sent before anything is streamed. */
  const answer = async (
    request: FastifyRequest,
    reply: FastifyReply,
    begin: () => Promise<{ first: Lines; headers: Record<string, string | number> }>,
  ): Promise<FastifyReply> => {
    const actor = actorOf(request)
    const { raw } = reply
    const mine = [...open.values()].filter((sub) => sub === actor.sub).length
    if (open.size >= most || mine >= mostOfOne) throw overloaded('too many history streams are open')
    open.set(raw, actor.sub)
    try {
      const { first, headers } = await begin()
      allow(actor, 'read', first.mission)
      const coding = codingOf(request)
      varies(reply)
      reply.hijack()
      raw.writeHead(200, {
        ...(reply.getHeaders() as NodeJS.Dict<string>),
        ...(coding === undefined ? {} : { 'content-encoding': coding }),
        'content-type': `${lines}; charset=utf-8`,
        ...streamed,
        ...headers,
      })
      if (request.method === 'HEAD') raw.end()
      else
        await stream(raw, coding, first, ({ mission }) => {
          allow(actor, 'read', mission)
          if (!holds(actor)) throw deny('unauthorized')
        })
    } catch (error) {
      if (!raw.headersSent) throw error
      if (!raw.destroyed) request.log.info({ err: error }, 'a streamed response was aborted')
      reset(raw)
    } finally {
      open.delete(raw)
    }
    return reply
  }
  return Object.assign(answer, { count: () => open.size })
}
export type Streams = ReturnType<typeof makeStreams>
