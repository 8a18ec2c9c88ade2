// A few tests for node:test, some of which fail. test/cli/report.test.ts reads the output of node:test's reporters.
import assert from 'node:assert'
import { describe, it, test } from 'node:test'

describe('topics', () => {
  it('are parsed', () => {})
  describe('of chats', () => {
    it('have a citizen', () => assert.equal('Rafael', 'rafael'))
    it('are followed', { skip: true }, () => {})
  })
})
test('plain', () => {})
