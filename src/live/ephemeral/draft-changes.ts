// What followers of a draft get when their copy is replaced by a newer copy.
import type { Publisher } from './draft-publisher.ts'
import type { Draft, Stored } from './draft-registry.ts'

/** Sends followers what the draft has and `held`, their copy, does not. A text from offset 0 is followed by all steps. */
export const sendChanges = (
  toFollowers: Publisher['toFollowers'],
  draft: Draft,
  { text: before, activity: known = [] }: Pick<Stored, 'text' | 'activity'> = { text: '' },
): void => {
  const { text, activity } = draft
  const isReplaced = !text.startsWith(before)
  if (isReplaced && text === '') toFollowers(draft, 0)
  const steps = isReplaced
    ? activity
    : activity.filter(
        ({ id, line, status }) => !known.some((one) => one.id === id && one.line === line && one.status === status),
      )
  const from = isReplaced ? 0 : before.length
  if (from < text.length || steps.length > 0) toFollowers(draft, from, steps)
}
