// A few tests for tap, some of which fail. test/cli/report.test.ts reads the output of tap's reporter.
import t from 'tap'

t.test('buttons', (t) => {
  t.ok(true, 'they are there')
  t.equal(['Yes'].length, 2, 'there are two')
  t.test('removed', (t) => {
    t.ok(true, 'one by one')
    t.end()
  })
  t.end()
})
t.test('webhooks', { skip: 'no network' }, (t) => t.end())
t.test('threads', { todo: true }, (t) => t.end())
t.ok(true, 'a plain one')
t.ok(true, 'a plain one')
t.comment('\u001b[32mgreen\u001b[0m')
