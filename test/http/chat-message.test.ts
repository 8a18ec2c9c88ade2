// One message by its ID: its form, rights, and IDs that are not messages of the chat.
import { randomUUID } from 'node:crypto'
import t from 'tap'
import { refused } from '../support/forms.ts'
import { admin, alice, bob, makeMission, rafael, startDeck } from '../support/server.ts'

const { database, instance } = await startDeck(t)
const { request } = instance

void t.test('chat: a message read by its ID equals the history’s, for everyone who may read the chat', async (t) => {
  const { id, number } = await makeMission(instance)
  const chat = `/api/missions/${id}/chat/rafael`
  const { json: question } = await request('POST', chat, alice, { message: 'a question\n```js\n1\n```' })
  const [row] = await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message, in_reply_to)
     values ($1, 'rafael', 'citizen', 'an answer by SQL', $2) returning id`,
    [id, question['id']],
  )
  const messages = (await request('GET', chat, alice)).json['messages'] as Record<string, unknown>[]
  t.equal(messages.length, 2)
  t.equal(messages[1]?.['id'], row?.['id'])
  for (const message of messages)
    for (const bearer of [alice, rafael, admin])
      for (const path of [
        `${chat}/messages/${String(message['id'])}`,
        `/api/missions/${number}/chat/rafael/messages/${String(message['id']).toUpperCase()}`,
      ]) {
        const { status, json } = await request('GET', path, bearer)
        t.equal(status, 200, path)
        t.strictSame(json, message)
      }
  const path = `${chat}/messages/${String(question['id'])}`
  refused(t, await request('GET', path, bob), 404, 'not_found', "another user's mission")
  refused(t, await request('GET', path), 401, 'unauthorized', 'no token')
})

void t.test('chat: an ID that is no message of the chat is not_found, or bad_request if it is no UUID', async (t) => {
  const { id } = await makeMission(instance)
  const other = await makeMission(instance)
  const chat = `/api/missions/${id}/chat/rafael`
  const { json } = await request('POST', chat, alice, { message: 'here' })
  const mine = String(json['id'])
  for (const path of [
    `${chat}/messages/${randomUUID()}`,
    `/api/missions/${id}/chat/sofia/messages/${mine}`,
    `/api/missions/${other.id}/chat/rafael/messages/${mine}`,
    `/api/missions/${randomUUID()}/chat/rafael/messages/${mine}`,
  ])
    refused(t, await request('GET', path, alice), 404, 'not_found', path)
  for (const name of ['1', `${mine}0`, '%00', 'null'])
    refused(t, await request('GET', `${chat}/messages/${name}`, alice), 400, 'bad_request', name)
  refused(t, await request('GET', `/api/missions/${id}/chat/Rafael/messages/${mine}`, alice), 400, 'bad_request')
  await request('DELETE', chat, admin)
  refused(t, await request('GET', `${chat}/messages/${mine}`, alice), 404, 'not_found', 'a cleared message')
})
