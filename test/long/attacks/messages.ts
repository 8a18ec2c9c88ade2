// Messages of 250 KB, sent by a citizen as fast as they are accepted.
import { token } from '../../support/server.ts'
import { attack, keepOn } from './attack.ts'

attack(
  'messages of 250 KB',
  () => Promise.resolve(),
  async (stage) => {
    const rafael = await token({ sub: 'rafael', role: 'citizen' })
    const sockets = await Promise.all(Array.from({ length: 4 }, () => stage.server.connect(rafael)))
    const code_blocks = [{ language: null, code: 'x'.repeat(240_000) }]
    return keepOn(stage, 240, async (n) => {
      const topic = `missions/${stage.id}/chat/rafael`
      const answer = await sockets[n % 4]?.ask({ type: 'send', topic, message: `${n}`, code_blocks })
      return answer?.['type'] === 'ok' ? 'ok' : answer?.['code']
    })
  },
)
