// Measures the time to the first message, with 60 missions and with one mission. The CPU is throttled to a quarter.
// The time is in ms, from the navigation's start to the first frame with a message. Prints each page's median; rounds alternate.
// ROUNDS=9 sets the rounds. Run:
//   npx tap --timeout=900 --reporter=tap test/long/first.ts
import t from 'tap'
import { openPage, startBrowser, without } from '../web/browser.ts'
import { alice, bob, makeMission, startDeck } from '../support/server.ts'

t.setTimeout(900_000)
const { instance, database } = await startDeck(t)
const rounds = Number(process.env['ROUNDS'] ?? 9)

const watch = `firstMessage = new Promise((done) => {
  const check = () => (document.querySelector('.track .row') ? done(performance.now()) : requestAnimationFrame(check))
  check()
})`

void t.test('page: prints the time to the first message with one mission and with 60', { skip: without }, async (t) => {
  const browser = await startBrowser(t)
  const makeMissions = async (assigned_to: string, count: number): Promise<number> => {
    let last = 0
    for (let n = 0; n < count; n++) {
      const { id, number } = await makeMission(instance, { assigned_to })
      await database.query(
        `insert into chat_messages (mission_id, citizen, sender, author, message)
         select $1, c, 'user', 'root', 'message ' || n from unnest(array['emma', 'rafael', 'sofia']) c, generate_series(1, 20) n`,
        [id],
      )
      last = number
    }
    return last
  }
  const first = async (token: string, number: number): Promise<number> => {
    const page = await openPage(t, browser, 'about:blank')
    await page.addInitScript(watch)
    const cdp = await page.context().newCDPSession(page)
    await cdp.send('Emulation.setCPUThrottlingRate', { rate: 4 })
    await page.goto(`${instance.url}/deck/missions/${number}/rafael#token=${token}`)
    const took = await page.evaluate<number>('firstMessage')
    await page.context().close()
    return took
  }
  const [one, many] = [await makeMissions('alice', 1), await makeMissions('bob', 60)]
  const took = { one: [] as number[], many: [] as number[] }
  for (let round = 0; round < rounds; round++) {
    took.one.push(await first(alice, one))
    took.many.push(await first(bob, many))
  }
  const median = (times: number[]): number => times.toSorted((a, b) => a - b)[times.length >> 1] ?? NaN
  t.comment(`one mission: ${median(took.one).toFixed(0)} ms, 60 missions: ${median(took.many).toFixed(0)} ms`)
  t.ok(median(took.many) > 0)
})
