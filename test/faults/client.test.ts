// The client on two instances while its connections are cut at random: nothing is lost, duplicated or out of order, without help of
// its caller. test/long/client.ts does the same with more messages and in other runtimes.
import t from 'tap'
import { connect } from '../../src/client/index.ts'
import { alice, makeMission, startDeck, startInstance, until } from '../support/server.ts'
import { checkTable, startCutting } from './cutter.ts'
import { errand } from './errand.ts'
import { startWire } from '../support/socket-proxy.ts'

void t.test(
  'client: 2,000 messages of three senders reach three followers once and in order when connections are cut',
  async (t) => {
    const { instance: one, database } = await startDeck(t)
    const two = await startInstance(t, database.url)
    const wire = await startWire(t, one.url)
    const { id } = await makeMission(one)
    // A cut is due after a number of bytes, not after a time: on a slow machine cuts would otherwise take all the time.
    let over = false
    const cutting = startCutting(wire, [one.url, two.url], () => {
      const due = wire.carried() + 400_000 * (0.5 + Math.random())
      return until(() => over || wire.carried() >= due, 'the next bytes', 60_000)
    })
    const { wrong, held, ms, connects } = await errand(connect, {
      url: wire.url,
      token: alice,
      mission: id,
      count: 2000,
    })
    over = true
    const cuts = await cutting.stop()
    t.comment(`${ms} ms, ${cuts} cuts, ${connects} connects`)
    t.same(wrong, [])
    t.same(held, [2000, 2000, 2000])
    t.ok(cuts >= 5 && connects > 6, 'it was cut')
    await checkTable(t, database, id, 2000)
  },
)
