// The module that replaces 'tap' in a shard: the same exports, but `t` is the current file's subtest.
import { t as root, type Test } from 'tap'

let current: Test = root
/** Sets `t`, also in the modules that have already imported it. */
export const enter = (t: Test): void => {
  current = t
}
export * from 'tap'
export { current as default, current as t }
