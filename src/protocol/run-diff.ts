// The comparison of two test runs: the schema of the response, and the thresholds of its terms. database/read/run-diff.ts computes it.
import Type, { type Static } from './typebox.ts'
import { Message, TestRun } from './rows.ts'

/** A test is slower if it takes `times` as long and `more` ms longer. Smaller differences may come from a busy machine. */
export const slower = { times: 1.5, more: 50 }
/** A test is flaky if it changed between passed and failed at least `flips` times in the last `runs` finished runs. */
export const flaky = { flips: 2, runs: 20, most: 500, bytes: 512 * 1024 }
/** Bytes of the compared lists. The whole response has 4 MiB, with flaky tests and messages. */
export const bytesCompared = 3 * 1024 * 1024
/** At most this many of the newest messages between two runs, as far as the response has room. */
export const between = { messages: 200 }

const nullable = <T extends Type.TSchema>(schema: T) => Type.Union([schema, Type.Null()])
const name = Type.String({ description: "the element's name in results" })
const word = Type.Union([Type.Literal('passed'), Type.Literal('failed'), Type.Literal('skipped')])
const list = <T extends Type.TProperties>(description: string, members: T) =>
  Type.Array(Type.Object({ name, ...members }), { description })
const error = nullable(Type.String({ description: "the element's error, if it is a text" }))

const { id, status, created_at } = TestRun.properties
const run = Type.Object({ id, status, created_at })

export const RunDiff = Type.Object(
  {
    a: run,
    b: run,
    newly_failing: list('failed in b, and not in a; a test that is missing in a is also in added', { error }),
    fixed: list('failed in a, passed in b', {}),
    still_failing: list('failed in both', { error }),
    added: list('in b only', { status: word }),
    removed: list('in a only', { status: word }),
    slower: list(
      `passed in both, ${slower.times} times as long in b and at least ${slower.more} ms more; by duration_ms`,
      { a_ms: Type.Number(), b_ms: Type.Number() },
    ),
    cut: Type.Optional(Type.Literal(true, { description: 'the lists above were shortened to 3 MiB' })),
    flaky: list(
      `flipped between passed and failed at least ${flaky.flips} times in the last ${flaky.runs} finished runs up to b; at ` +
        `most ${flaky.most} with 512 KiB of names, those that flipped most`,
      {
        flips: Type.Integer(),
        runs: Type.Integer({ description: 'the number of these runs that have the test and did not skip it' }),
      },
    ),
    between: Type.Object(
      {
        since: created_at,
        until: created_at,
        messages: Type.Array(Message, { description: 'of all chats, by created_at' }),
        has_more: Type.Boolean({ description: 'whether older messages exist' }),
      },
      {
        description: `messages created between the earlier and the later run: the newest ${between.messages}, or as many as fit into 4 MiB, oldest first`,
      },
    ),
  },
  { title: 'RunDiff' },
)
export type RunDiff = Static<typeof RunDiff>
