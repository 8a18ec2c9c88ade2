// As many and as long drafts as a citizen may write, over several sockets.
import { token } from '../../support/server.ts'
import { attack, keepOn } from './attack.ts'

attack(
  'drafts that never end',
  () => Promise.resolve(),
  async (stage) => {
    const rafael = await token({ sub: 'rafael', role: 'citizen' })
    const sockets = await Promise.all(Array.from({ length: 8 }, () => stage.server.connect(rafael)))
    const watcher = await stage.server.connect(stage.alice)
    await watcher.ask({ type: 'subscribe', topic: `missions/${stage.id}/chat/rafael` })
    return keepOn(stage, 40, async (n) => {
      const topic = `missions/${stage.id}/chat/rafael`
      const answer = await sockets[n % 8]?.ask({ type: 'stream', topic, key: `${n}`, delta: 'ä'.repeat(19_000) })
      return answer?.['type'] === 'ok' ? 'ok' : answer?.['code']
    })
  },
)
