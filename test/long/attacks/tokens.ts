// `auth` frames with a token that is padded differently each time, in turn with valid tokens that differ.
import { token } from '../../support/server.ts'
import { attack, keepOn } from './attack.ts'

attack(
  'padded and new tokens',
  () => Promise.resolve(),
  async (stage) => {
    const client = await stage.server.connect(stage.alice)
    return keepOn(stage, 20, async (n) => {
      const good = await token({ sub: 'alice', role: 'user', jti: `${n}` })
      const given = n % 2 ? `${good}${' '.repeat(400_000 + n)}` : good
      const open = client.closed ? await stage.server.connect(stage.alice) : client
      const answer = await open.ask({ type: 'auth', token: given })
      return answer['type'] === 'ok' ? 'ok' : answer['code']
    })
  },
)
