// A citizen on any endpoint that streams as OpenAI's chat completions do.
//   DECK_TOKEN=… OPENAI_BASE_URL=http://127.0.0.1:11434/v1 OPENAI_API_KEY=… MODEL=… node examples/openai.js
import { connect } from 'mission-deck/client'

const { DECK_URL: url = 'http://127.0.0.1:3000', DECK_TOKEN: token = '', CITIZEN: citizen = 'rafael' } = process.env
const {
  OPENAI_BASE_URL: endpoint = 'https://api.openai.com/v1',
  OPENAI_API_KEY: key = '',
  MODEL: model = '',
} = process.env
const deck = connect({ url, token })

/** The parts of an answer as they come: each event is a line `data: {…}`, the last one `data: [DONE]`. The part before it has the usage. */
async function* complete(messages, signal) {
  const response = await fetch(`${endpoint}/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model, messages, stream: true, stream_options: { include_usage: true } }),
    signal,
  })
  if (!response.ok) throw new Error(`${endpoint} answered ${response.status}`)
  let rest = ''
  for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split(/\r?\n/)
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (!line.startsWith('data: ') || line === 'data: [DONE]') continue
      yield JSON.parse(line.slice(6))
    }
  }
}

await deck.citizen(citizen).answer(async (question, reply) => {
  // What was said before the question, and the question.
  const { messages } = await deck.chat(question.mission_id, citizen).history({ before: question.seq + 1, limit: 20 })
  const said = messages.map(({ sender, message }) => ({
    role: sender === 'user' ? 'user' : 'assistant',
    content: message,
  }))
  const asking = reply.activity(`Asks ${model}`)
  let usage
  for await (const part of complete(said, reply.signal)) {
    const words = part.choices[0]?.delta?.content
    if (words) {
      asking.done()
      reply.write(words)
    }
    usage = part.usage ?? usage
  }
  if (reply.text) await reply.done({ usage })
})
