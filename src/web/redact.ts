// A message that was taken back: what is left of it.
import type { Message, Redacted } from '../client/index.ts'

export const redact =
  ({ by, at }: Redacted) =>
  ({ id, mission_id, citizen, sender, author, created_at, seq, key, in_reply_to }: Message): Message => ({
    id,
    mission_id,
    citizen,
    sender,
    author,
    message: '',
    code_blocks: null,
    created_at,
    seq,
    key,
    in_reply_to,
    redacted: { by, at },
  })
