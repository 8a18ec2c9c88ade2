// What a test file gets for 'tap' when it runs in a shard: the same, but `t` is the subtest of that file.
import { t as root, type Test } from 'tap'

let current: Test = root
/** Makes `t` the given test from here on, also where it was imported before. */
export const enter = (t: Test): void => {
  current = t
}
export * from 'tap'
export { current as default, current as t }
