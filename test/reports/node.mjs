// A few tests for node:test, of which some fail: what its reporters say of them is what test/cli/report.test.ts reads.
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
