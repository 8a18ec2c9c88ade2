// Every command of the socket, by the type of its frame: a total table.
import type { Tokens } from '../access/tokens.ts'
import type { Hub } from '../live/hub.ts'
import type { Handlers } from '../live/session.ts'
import type { Missions } from '../log/missions.ts'
import type { Store } from '../log/store.ts'
import type { Writer } from '../log/writer.ts'
import { makeAuth } from './auth.ts'
import { ping } from './ping.ts'
import { makeSend } from './send.ts'
import { makeSubscribe } from './subscribe.ts'

export const makeCommands = (parts: {
  tokens: Tokens
  hub: Hub
  missions: Missions
  store: Store
  writer: Writer
}): Handlers => ({
  ...makeSubscribe(parts.store, parts.hub),
  send: makeSend(parts.missions, parts.writer),
  auth: makeAuth(parts.tokens, parts.hub),
  ping,
})
