// Replays a mission's timeline as an event stream: the recorded pauses divided by a speed, with long pauses shortened.
// A page is read, and each of its events is sent when it is due. Nothing more is read until the client has taken it, so a stream
// holds at most one page. It ends with the event `end`, or with a comment that has the reason (token, rights, a stop).
// A client that reconnects sends the last event's ID.
import type { ServerResponse } from 'node:http'
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify'
import type { Actor } from '../../access/actor.ts'
import { allow } from '../../access/policy.ts'
import type { Tokens } from '../../access/tokens.ts'
import { makeBatched } from '../../database/postgres/batcher.ts'
import type { Store } from '../../database/read/topics.ts'
import { rest, type Item, type Span, type Timeline, type TimelinePage } from '../../database/read/timeline.ts'
import { deny, Refusal } from '../../protocol/errors.ts'
import { eventStream, toComment, toEvent } from '../../protocol/event-stream.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import { toCursor } from '../../protocol/timeline.ts'
import { makeGate } from './stream-limit.ts'
import { actorOf } from '../plugins/authenticate.ts'
import { streamed } from '../plugins/negotiation.ts'
import { reset, write } from './ndjson.ts'

/** A replay holds up to 64 KiB of rows, 400 KiB as JSON with escapes: 256 replays hold at most 100 MiB. */
const most = 256
const mostOfOne = 32
const part = { rows: 100, bytes: 64 * 1024 }
/** ms that a delayed stream may catch up; a longer delay shifts all later events. */
const slack = 1000

/** `speed`: recorded seconds a second; without it, no pauses. `gap`: the longest pause between two events, in ms. */
export type Pace = { speed: number | undefined; gap: number }

type Player = { end(why: string, retry?: number): void }

export const makePacing = ({
  timeline,
  store,
  holds,
  limits,
}: {
  timeline: Timeline
  store: Pick<Store, 'rights'>
  holds: Tokens['holds']
  /** ms: between two comments; between two checks of rights; within which the client must read; timeout of a check of rights */
  limits: { commentEvery: number; rightsEvery: number; silence: number; writeDeadline: number }
}) => {
  const players = new Set<Player>()
  const pass = makeGate(most, mostOfOne, 'too many missions are being replayed')
  let draining = false
  const rightsOf = makeBatched(
    async (missions: string[]) => {
      const { found } = await store.rights([...new Set(missions)])
      return missions.map((id) => found.find((mission) => mission.id === id))
    },
    { max: 1000, patience: limits.writeDeadline },
  )

  const play = async (
    raw: ServerResponse,
    log: FastifyBaseLogger,
    actor: Actor,
    ref: MissionRef,
    asked: Span,
    { speed, gap }: Pace,
    first: TimelinePage,
    horizon: string,
  ): Promise<void> => {
    let over = false
    let wake = (): void => {}
    const end = (why: string, retry?: number): void => {
      if (over) return
      over = true
      raw.write(toComment(why, retry))
      raw.end()
      // A client that does not read must not keep the connection open.
      const timer = setTimeout(() => reset(raw), 2000)
      timer.unref()
      raw.once('close', () => clearTimeout(timer))
      wake()
    }
    const player = { end }
    players.add(player)
    raw.once('close', () => {
      over = true
      players.delete(player)
      wake()
    })
    const pause = (ms: number): Promise<void> =>
      new Promise((resolve) => {
        const timer = setTimeout(resolve, ms)
        wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })

    const { id: mission } = first.mission ?? { id: '' }
    let commentAt = performance.now() + Math.random() * limits.commentEvery
    let checkAt = performance.now() + limits.rightsEvery
    let out = ''
    const flush = async (): Promise<void> => {
      const text = out
      out = ''
      if (text !== '' && !over) await write(raw, text, limits.silence)
    }
    /** Waits until `due`. Meanwhile sends comments, and checks the token and the rights. */
    const until = async (due: number): Promise<void> => {
      for (;;) {
        const now = performance.now()
        if (now >= commentAt) {
          commentAt = now + limits.commentEvery
          out += String(toComment(''))
        }
        if (now >= checkAt) {
          checkAt = now + limits.rightsEvery
          if (!holds(actor)) throw deny('unauthorized', 'the token is expired or revoked')
          allow(actor, 'read', await rightsOf(mission))
        }
        if (now >= due || over) return
        await flush()
        if (!over) await pause(Math.max(1, Math.min(due, commentAt, checkAt) - performance.now()))
      }
    }

    const { epoch } = first
    const timeOf = ({ at }: { at: string }): number => Date.parse(at.endsWith('Z') ? at : `${at}Z`)
    let due = performance.now()
    // A resumed stream waits for the rest of the pause. A new one sends the first event at once.
    let before = asked.after.topic === null ? undefined : timeOf(asked.after)
    const send = async ({ place, event, text }: Item): Promise<void> => {
      const now = timeOf(place)
      if (speed !== undefined && before !== undefined)
        due = Math.max(due + Math.min(gap, Math.max(0, now - before) / speed), performance.now() - slack)
      before = now
      await until(due)
      out += toEvent(toCursor(epoch, place), event, text)
    }
    try {
      let span = asked
      for (let page = first; ;) {
        for (const item of page.items) {
          await send(item)
          if (over) return
        }
        await flush()
        span = rest(span, page.items)
        if (!page.more || over) break
        page = await timeline.part(ref, span, part.rows, part.bytes, actor.sub)
        allow(actor, 'read', page.mission)
        if (page.epoch !== epoch)
          throw deny('conflict', 'the database was restored or replaced while reading: start again')
      }
      if (over) return
      over = true
      const cursor = toCursor(epoch, span.before)
      raw.end(toEvent(cursor, 'end', JSON.stringify({ cursor, horizon })))
    } catch (error) {
      if (raw.destroyed) return
      log.info({ err: error }, 'a replay was aborted')
      if (error instanceof Refusal) end(error.detail)
      else reset(raw)
    }
  }

  const end = (why: string, least: number, most: number): void => {
    for (const player of [...players]) player.end(why, least + Math.random() * (most - least))
  }

  return {
    /** `begin` resolves to the requested span. If it throws, the error is sent before anything is streamed. */
    async open(
      request: FastifyRequest,
      reply: FastifyReply,
      ref: MissionRef,
      pace: Pace,
      begin: () => Promise<{ span: Span; horizon: string; see: (page: TimelinePage) => void }>,
    ): Promise<FastifyReply> {
      const actor = actorOf(request)
      await pass(actor.sub, reply, async () => {
        const { raw } = reply
        const { span, horizon, see } = await begin()
        const first = await timeline.part(ref, span, part.rows, part.bytes, actor.sub)
        see(first)
        if (draining) throw deny('unavailable', 'the server is restarting')
        reply.hijack()
        raw.writeHead(200, {
          ...(reply.getHeaders() as NodeJS.Dict<string>),
          'content-type': `${eventStream}; charset=utf-8`,
          ...streamed,
          'deck-epoch': first.epoch,
          'deck-horizon': horizon,
        })
        if (request.method === 'HEAD') return void raw.end()
        raw.flushHeaders()
        void play(raw, request.log, actor, ref, span, pace, first, horizon)
      })
      return reply
    },
    /** Ends all replays, with retry times spread over some seconds. */
    end: (why: string): void => end(why, 0, 2000),
    /** Refuses new replays and ends all running ones. */
    drain(): void {
      draining = true
      end('restart', 1000, 5000)
    },
    count: (): number => players.size,
  }
}
export type Pacing = ReturnType<typeof makePacing>
