// Chats that are longer than the buffers of a connection, and readers of their stream that pause.
import { get, type IncomingMessage } from 'node:http'
import type { FreshDatabase } from './database.ts'
import { alice, makeMission, type Door } from './server.ts'

export const lines = { accept: 'application/x-ndjson' }
export const range = (from: number, to: number): number[] =>
  Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i)
/** The seqs of streamed messages, in the order received. */
export const seqs = (text: string): number[] =>
  Array.from(text.matchAll(/"seq":(\d+),"key"/g), ([, seq]) => Number(seq))

export const newChat = async (instance: Door): Promise<{ id: string; number: number; chat: string }> => {
  const mission = await makeMission(instance)
  return { ...mission, chat: `/api/missions/${mission.id}/chat/rafael` }
}

/** Saves messages by SQL. `message` and `code_blocks` are SQL expressions of the number n. */
export const fill = (
  database: FreshDatabase,
  id: string,
  count: number,
  message = `'n ' || n`,
  code_blocks = 'null',
): Promise<unknown> =>
  database.query(
    `insert into chat_messages (mission_id, citizen, sender, author, message, code_blocks, key)
     select $1, 'rafael', 'user', nullif('author ' || n % 3, 'author 0'), ${message}, ${code_blocks},
       case when n % 2 = 0 then '"' || gen_random_uuid() end
     from generate_series(1, $2::integer) n`,
    [id, count],
  )

/** The number of messages of `longChat`: 10 MB, more than the buffers of a connection hold. */
export const long = 1000
export const longChat = async (instance: Door, database: FreshDatabase): Promise<{ id: string; chat: string }> => {
  const made = await newChat(instance)
  await fill(database, made.id, long, `rpad(n || ' ', 10000, 'x')`)
  return made
}

/** `whole`: whether the response was complete. */
export type Reader = { response: IncomingMessage; rest(): Promise<{ text: string; whole: boolean }> }

/** Starts the request, and reads nothing of the body until `rest` is called. */
export const begin = async ({ url }: Door, chat: string, bearer = alice): Promise<Reader> => {
  const headers = { ...lines, authorization: `Bearer ${bearer}` }
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    get(url + chat, { agent: false, headers }, resolve).on('error', reject)
  })
  if (response.statusCode !== 200) throw new Error(`status ${response.statusCode}`)
  response.on('error', () => {})
  return {
    response,
    async rest() {
      let text = ''
      try {
        for await (const chunk of response.setEncoding('utf8')) text += chunk as string
      } catch {}
      return { text, whole: response.complete }
    },
  }
}
