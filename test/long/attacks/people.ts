// A user who sends without pause, and opens as many sockets as possible.
import type { Client } from '../../support/server.ts'
import { attack, keepOn } from './attack.ts'

attack(
  'a user who sends without pause',
  () => Promise.resolve(),
  async (stage) => {
    const topic = `missions/${stage.id}/chat/rafael`
    const open: Client[] = []
    const answers = await keepOn(stage, 50, async (n) => {
      if (n % 10 === 0) open.push(await stage.server.connect(stage.alice))
      const client = open[n % open.length]
      if (!client || client.closed) return `closed with ${client?.closed?.code}`
      const answer = await client.ask({ type: 'send', topic, message: `${n}` })
      return answer['type'] === 'ok' ? 'ok' : answer['code']
    })
    return `${answers}; ${open.filter(({ closed }) => !closed).length} sockets`
  },
)
