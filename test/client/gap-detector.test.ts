// The client's gap detector: which events are next, duplicates or behind a gap, and when missing events are requested.
import t from 'tap'
import { makeGapDetector } from '../../src/client/gap-detector.ts'

void t.test(
  'gap detector: gaps up to the latest seq at subscription are removed messages, later ones are lost events',
  (t) => {
    const gaps = makeGapDetector()
    gaps.restart(2, 7)
    t.equal(gaps.take(2), 'duplicate')
    t.equal(gaps.take(4), 'next')
    t.equal(gaps.take(3), 'duplicate')
    t.equal(gaps.take(8), 'next', 'the first after the latest; 5 to 7 were removed')
    t.equal(gaps.take(10), 'gap')
    t.equal(gaps.take(9), 'next', 'an event behind a gap was not counted as received')
    t.equal(gaps.take(10), 'next')
    t.end()
  },
)

void t.test('gap detector: an event right after the latest seq is no gap, whatever was received before', (t) => {
  const gaps = makeGapDetector()
  gaps.restart(0, 5)
  t.equal(gaps.take(7), 'gap')
  t.equal(gaps.take(6), 'next')
  t.end()
})

void t.test('gap detector: a reported seq that does not arrive is missing once, unless there was progress', (t) => {
  const gaps = makeGapDetector()
  gaps.restart(3, 3)
  gaps.report(3)
  t.notOk(gaps.tick(0), 'nothing is missing')
  gaps.report(5)
  t.notOk(gaps.tick(3_600_000), 'not before the patience ends')
  gaps.take(4)
  t.notOk(gaps.tick(0), 'there was progress')
  t.notOk(gaps.tick(0), 'the report is used up')
  gaps.report(5)
  gaps.report(6)
  t.ok(gaps.tick(0))
  gaps.report(5)
  t.notOk(gaps.tick(0), 'requested before: it was removed')
  gaps.report(6)
  t.ok(gaps.tick(0), 'a later one is requested again')
  gaps.report(7)
  gaps.restart(4, 7)
  t.notOk(gaps.tick(0), 'a new subscription delivers the missing events')
  t.end()
})

void t.test('gap detector: a restart at a lower latest seq forgets the seqs of the former epoch', (t) => {
  const gaps = makeGapDetector()
  gaps.restart(3, 3)
  gaps.report(9)
  t.ok(gaps.tick(0), 'seq 9 is missing')
  gaps.restart(0, 4)
  for (const seq of [1, 2, 3, 4]) gaps.take(seq)
  gaps.report(6)
  t.ok(gaps.tick(0), 'seq 6 of the new epoch is missing')
  gaps.restart(4, 6)
  gaps.report(6)
  t.notOk(gaps.tick(0), 'seq 6 was requested once')
  t.end()
})

void t.test('gap detector: a restart counts the ticks without progress from zero', (t) => {
  const gaps = makeGapDetector()
  gaps.restart(3, 7)
  for (let n = 0; n < 4; n++) gaps.tick(0)
  gaps.restart(3, 7)
  for (let n = 0; n < 4; n++) gaps.tick(0)
  t.equal(gaps.behind(), 4, 'the events of the new subscription may still come')
  gaps.tick(0)
  t.equal(gaps.behind(), 0)
  t.end()
})

void t.test('gap detector: behind counts down, and ends when the rest was removed', (t) => {
  const gaps = makeGapDetector()
  gaps.restart(10, 14)
  t.equal(gaps.behind(), 4)
  gaps.take(11)
  t.equal(gaps.behind(), 3)
  gaps.take(13)
  t.equal(gaps.behind(), 1)
  for (let n = 0; n < 5; n++) gaps.tick(0)
  t.equal(gaps.behind(), 1, 'the rest may still come')
  gaps.tick(0)
  t.equal(gaps.behind(), 0)
  gaps.take(15)
  t.equal(gaps.behind(), 0, 'live events do not count')
  t.end()
})
