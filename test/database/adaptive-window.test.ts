// The number of rows that a scan's statements read, without a database: it follows the time that they take.
import t from 'tap'
import { adaptiveWindow } from '../../src/database/search/adaptive-window.ts'

const bounds = { first: 500, least: 50, most: 4000 }
/** Its rows after statements that took so many ms. */
const after = (...times: number[]): number => {
  const window = adaptiveWindow(bounds)
  for (const ms of times) window.took(ms)
  return window.rows
}

void t.test('adaptive window: doubles after fast statements, halves after slow ones', (t) => {
  t.equal(after(), 500)
  t.equal(after(39), 1000)
  t.equal(after(40), 500, 'neither fast nor slow')
  t.equal(after(150), 500, 'neither fast nor slow')
  t.equal(after(151), 250)
  t.equal(after(0, 0, 1000), 1000)
  t.end()
})

void t.test('adaptive window: stays within its bounds, and comes back from each', (t) => {
  t.equal(after(...Array<number>(10).fill(1)), 4000)
  t.equal(after(...Array<number>(10).fill(1), 200), 2000)
  t.equal(after(...Array<number>(10).fill(200)), 50)
  t.equal(after(...Array<number>(10).fill(200), 1), 100)
  const window = adaptiveWindow(bounds)
  t.notOk(window.isLeast)
  window.resize(0)
  t.equal(window.rows, 50)
  t.ok(window.isLeast)
  window.resize(1_000_000)
  t.equal(window.rows, 4000)
  window.resize(777)
  t.equal(window.rows, 777)
  t.end()
})
