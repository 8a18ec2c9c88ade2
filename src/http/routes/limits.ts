// The limits that clients see: a socket's in its first frame, an instance's by GET /api/limits.
import type { FastifyInstance } from 'fastify'
import type { Limits } from '../../config/index.ts'
import { answerBytes, perMission, registry } from '../../database/bounds.ts'
import { codeBlocksBytes } from '../../protocol/blocks.ts'
import { mostCredit } from '../../protocol/client-frames.ts'
import { messageChars } from '../../protocol/rows.ts'
import { Limits as SocketLimits } from '../../protocol/server-frames.ts'
import { jsonDepth } from '../../protocol/text.ts'
import Type, { type Static } from '../../protocol/typebox.ts'
import { describe } from './openapi.ts'

/** Returns null for a limit that is off. */
const finite = (limit: number): number | null => (limit === Infinity ? null : limit)

/** The limits in a socket's first frame. */
export const limitsTold = (limits: Limits): Static<typeof SocketLimits> => ({
  frame_bytes: limits.frameBytes,
  body_bytes: limits.bodyBytes,
  message_chars: messageChars,
  code_blocks_bytes: codeBlocksBytes,
  json_depth: jsonDepth,
  topics: limits.topics,
  credit: mostCredit,
  pending: limits.pending,
  bad_frames: limits.badFrames,
  frames_per_second: finite(limits.framesPerSecond),
  frames_burst: finite(limits.framesBurst),
  subject_frames_per_second: finite(limits.subjectFramesPerSecond),
  subject_frames_burst: finite(limits.subjectFramesBurst),
  requests_per_minute: finite(limits.requestsPerMinute),
  outbox_bytes: limits.outboxBytes,
  sockets_per_subject: limits.socketsPerSubject,
})

const count = Type.Integer({ minimum: 0 })
const countOrNone = Type.Union([Type.Number({ minimum: 0 }), Type.Null()], { description: 'null: not limited' })
const AllLimits = Type.Object(
  {
    ...SocketLimits.properties,
    answer_bytes: count,
    user_messages_per_second: countOrNone,
    user_messages_burst: countOrNone,
    sockets_per_user: count,
    waiting_claims: count,
    waiting_claims_per_subject: count,
    draft_bytes: count,
    draft_bytes_per_subject: count,
    subject_bytes_per_second: countOrNone,
    subject_bytes_burst: count,
    body_bytes_of_all: count,
    body_bytes_per_subject: count,
    waiting_bodies_per_subject: count,
    waiting_body_bytes_per_subject: count,
    responses_per_subject: count,
    searches_per_subject: count,
    waiting_requests_per_subject: count,
    unread_bytes_per_subject: count,
    chats_per_mission: count,
    items_per_mission: count,
    items_bytes_per_mission: count,
    open_requests_per_mission: count,
    citizens: count,
    citizens_bytes: count,
  },
  { title: 'Limits' },
)

export const limitsRoute = (app: FastifyInstance, limits: Limits): void => {
  app.get(
    '/api/limits',
    { schema: describe('access', 'The limits of this instance', [], { 200: AllLimits }) },
    (): Static<typeof AllLimits> => ({
      ...limitsTold(limits),
      answer_bytes: answerBytes,
      user_messages_per_second: finite(limits.userMessagesPerSecond),
      user_messages_burst: finite(limits.userMessagesBurst),
      sockets_per_user: Math.min(limits.socketsPerUser, limits.socketsPerSubject),
      waiting_claims: limits.claimsWaiting,
      waiting_claims_per_subject: limits.claimsWaitingPerSubject,
      draft_bytes: limits.draftBytes,
      draft_bytes_per_subject: limits.draftBytesPerSubject,
      subject_bytes_per_second: finite(limits.subjectBytesPerSecond),
      subject_bytes_burst: limits.subjectBytesBurst,
      body_bytes_of_all: limits.bodyBytesOfAll,
      body_bytes_per_subject: limits.bodyBytesAtOnce,
      waiting_bodies_per_subject: limits.bodiesWaiting,
      waiting_body_bytes_per_subject: limits.bodyBytesWaiting,
      responses_per_subject: limits.answersAtOnce,
      searches_per_subject: limits.searchesAtOnce,
      waiting_requests_per_subject: limits.answersWaiting,
      unread_bytes_per_subject: limits.answersUnread,
      chats_per_mission: perMission.chats,
      items_per_mission: perMission.items,
      items_bytes_per_mission: perMission.itemBytes,
      open_requests_per_mission: perMission.openRequests,
      citizens: registry.citizens,
      citizens_bytes: registry.citizensBytes,
    }),
  )
}
