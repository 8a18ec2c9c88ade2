// A citizen that needs no network: says again what it was asked, with some code, a word at a time. Questions that were asked before it
// started are answered, too. A cancelled question stops its reply.
//   DECK_TOKEN=… node examples/echo.js        (a token of the citizen: npx mission-deck token rafael citizen)
import { setTimeout as delay } from 'node:timers/promises'
import { connect } from 'mission-deck/client'

const { DECK_URL: url = 'http://127.0.0.1:3000', DECK_TOKEN: token = '', CITIZEN: citizen = 'rafael' } = process.env
const deck = connect({ url, token })

await deck.citizen(citizen).answer(async (message, reply) => {
  const quoted = JSON.stringify(message.message)
  const step = reply.activity('Reads the question')
  const text = `You asked ${quoted}. Here is all the code that it takes:\n\n\`\`\`js\nconsole.log(${quoted})\n\`\`\`\n`
  step.done()
  for (const word of text.match(/\S+\s*/g) ?? []) {
    if (reply.signal.aborted) return
    reply.write(word)
    await delay(30)
  }
})
