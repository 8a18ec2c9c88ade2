// A chat's history followed by live events: GET …/chat/{citizen} with Accept: text/event-stream.
// The start is read from the database, and every refusal comes before the first byte. Then a follower
// (live/connections/event-stream-session) subscribes to the hub. It ends with its token, its rights, or the server.
import type { FastifyReply, FastifyRequest } from 'fastify'
import { allow } from '../../access/policy.ts'
import { mismatch } from '../../commands/subscribe.ts'
import { Follower, type FollowerOptions } from '../../live/connections/event-stream-session.ts'
import type { Hub } from '../../live/hub/hub.ts'
import type { Store } from '../../database/read/topics.ts'
import { deny } from '../../protocol/errors.ts'
import { eventStream } from '../../protocol/event-stream.ts'
import { formatTopic, type MissionRef } from '../../protocol/topics.ts'
import { makeGate } from './stream-limit.ts'
import { actorOf } from '../plugins/authenticate.ts'
import { streamed } from '../plugins/negotiation.ts'

/** The number of messages that a stream without a start position begins with. */
const newest = 50

/** The seq after which the stream resumes: Last-Event-ID takes precedence over `after`. Throws `bad_request`. */
const placeOf = ({ headers }: FastifyRequest, after: number | undefined): number | undefined => {
  const last = headers['last-event-id']
  if (last === undefined) return after
  if (typeof last === 'string' && /^\d{1,16}$/.test(last) && Number.isSafeInteger(Number(last))) return Number(last)
  throw deny('bad_request', 'Last-Event-ID must be a seq')
}

export const makeFollowing = ({
  store,
  hub,
  limits,
  ledger,
  holds,
}: Pick<FollowerOptions, 'ledger' | 'holds'> & {
  store: Pick<Store, 'place' | 'newest'>
  hub: Pick<Hub, 'join' | 'leave'>
  limits: FollowerOptions['limits'] & { streams: number; streamsPerSubject: number }
}) => {
  const followers = new Set<Follower>()
  const pass = makeGate(limits.streams, limits.streamsPerSubject, 'too many event streams of chats are open')
  let closings = 0
  let draining = false

  const options: Omit<FollowerOptions, 'cut'> = {
    limits,
    ledger,
    holds,
    leave: hub.leave,
  }

  const ticking = setInterval(
    () => {
      const now = performance.now()
      for (const follower of followers) follower.tick(now)
    },
    Math.min(1000, limits.commentEvery),
  )
  ticking.unref()

  const open = async (
    request: FastifyRequest,
    reply: FastifyReply,
    ref: MissionRef,
    citizen: string,
    { after, epoch: known }: { after?: number; epoch?: string },
  ): Promise<void> => {
    const actor = actorOf(request)
    const { raw } = reply
    const wanted = placeOf(request, after)
    const before = closings
    const { mission, head, epoch, asOf } = await store.place({ mission: ref, suffix: `/chat/${citizen}`, run: null })
    allow(actor, 'read', mission)
    const from = wanted ?? (await store.newest(mission.id, citizen, head, newest))
    if ((known !== undefined && known !== epoch) || from > head) throw mismatch(head, epoch)
    // Checked again, with no await before the follower is registered: otherwise `end` could miss it.
    if (draining || closings !== before) throw deny('unavailable', 'the server is restarting')
    if (!holds(actor)) throw deny('unauthorized')
    const { socket } = raw
    if (raw.destroyed || !socket) throw deny('bad_request', 'an event stream needs its own connection')

    reply.hijack()
    // The end of the connection ends the stream, over HTTP/1.0 and 1.1.
    raw.useChunkedEncodingByDefault = false
    raw.writeHead(200, {
      ...(reply.getHeaders() as NodeJS.Dict<string>),
      'content-type': `${eventStream}; charset=utf-8`,
      ...streamed,
      'deck-last-seq': head,
      'deck-epoch': epoch,
      connection: 'close',
    })
    if (request.method === 'HEAD') return void raw.end()
    raw.flushHeaders()
    // (Only the request's log is kept: the request must not live as long as the stream.)
    const { log } = request
    const cut = (why: string): void => log.info({ why }, 'an event stream was reset')
    const follower = new Follower(raw, socket, actor, { ...options, cut })
    followers.add(follower)
    raw.once('close', () => followers.delete(follower))
    const subscription = hub.join(
      follower,
      formatTopic({ kind: 'chat', mission: ref, citizen }, mission.id),
      {
        rights: mission,
        asOf,
        head,
      },
      from,
    )
    if (follower.closed) hub.leave(subscription)
    else follower.subscription = subscription
  }

  const end = (why: string, least: number, most: number): void => {
    closings++
    // Random waits: clients must not reconnect at the same time.
    for (const follower of [...followers]) follower.end(why, least + Math.random() * (most - least))
  }

  return {
    async open(...[request, reply, ...where]: Parameters<typeof open>): Promise<FastifyReply> {
      await pass(actorOf(request).sub, reply, () => open(request, reply, ...where))
      return reply
    },
    /** Ends all streams, with retry times spread over some seconds. */
    end: (why: string): void => end(why, 0, 2000),
    /** Refuses new streams and ends all open ones. */
    drain(): void {
      draining = true
      end('restart', 1000, 5000)
    },
    close: (): void => clearInterval(ticking),
    count: (): number => followers.size,
  }
}
export type Following = ReturnType<typeof makeFollowing>
