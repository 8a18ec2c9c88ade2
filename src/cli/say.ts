// mission-deck say: sends a message, and ends once it is stored.
import { readFile } from 'node:fs/promises'
import type { Chat } from '../client/index.ts'
import type { Message } from '../protocol/rows.ts'
import { deny } from '../protocol/errors.ts'
import { withDeck, type RemoteOptions } from './server-connection.ts'
import { Usage } from './output.ts'

export type SayOptions = RemoteOptions & { key?: string; code: string[]; replyTo?: string }

const decode = (bytes: Buffer, what: string): string => {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw deny('bad_request', `${what} is not UTF-8`)
  }
}

/** Returns the text or, for -, the text of stdin without its last line end. */
export const textOf = async (given: string): Promise<string> => {
  if (given !== '-') return given
  const chunks: Buffer[] = []
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer)
  return decode(Buffer.concat(chunks), 'stdin').replace(/\r?\n$/, '')
}

const blockOf = async (given: string): Promise<NonNullable<Message['code_blocks']>[number]> => {
  const at = given.indexOf(':')
  if (at < 0) throw new Usage(`--code takes LANGUAGE:FILE, such as python:bot.py; ${given} has no colon`)
  const file = given.slice(at + 1)
  return { language: given.slice(0, at) || null, code: decode(await readFile(file), file) }
}

/** Returns the ID of a message that is named by its ID or its seq. */
const idOf = async (chat: Chat, name: string, signal: AbortSignal): Promise<string> => {
  const seq = Number(name)
  if (Number.isNaN(seq)) return name
  const [message] = (await chat.history({ after: seq - 1, before: seq + 1, limit: 1, signal })).messages
  if (!message) throw deny('not_found', `this chat has no message #${seq}`)
  return message.id
}

export const say = async (mission: string, citizen: string, given: string, options: SayOptions): Promise<void> => {
  const text = await textOf(given)
  const blocks = await Promise.all(options.code.map(blockOf))
  await withDeck(options, async ({ deck, io, signal }) => {
    const chat = deck.chat(mission, citizen)
    const { replyTo } = options
    const message = await chat.send(text, {
      ...(options.key === undefined ? {} : { key: options.key }),
      ...(replyTo === undefined ? {} : { replyTo: await idOf(chat, replyTo, signal) }),
      ...(blocks.length > 0 ? { code_blocks: blocks } : {}),
      signal,
    })
    io.print(`#${message.seq} is stored`, message)
  })
}
