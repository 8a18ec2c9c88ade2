// The number of rows that each statement of a scan reads depends on how long the last one took. Tested without a database.
import t from 'tap'
import { adaptiveWindow } from '../../src/database/search/adaptive-window.ts'

const bounds = { first: 500, least: 50, most: 4000 }
/** The window's rows after statements that took these times in ms. */
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

void t.test('adaptive window: stays within its bounds, and can leave each bound again', (t) => {
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
