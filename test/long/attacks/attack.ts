// Attacks with one token against an instance in a separate process. Each measures the instance's memory, and the latency of a different
// user's sends and reads. Each attack has a file; `npm run attacks` runs all, with the default heap and with --max-old-space-size=400.
import { readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { freshDatabase, type FreshDatabase } from '../../support/database.ts'
import { alice, bob, door, makeMission, type Door } from '../../support/server.ts'
import { spawnServer } from '../../support/processes.ts'

// ATTACK_MAIN: the main file of a different version, for comparison.
export const main = process.env['ATTACK_MAIN'] ?? fileURLToPath(new URL('../../../dist/main.js', import.meta.url))
const heaps = { 'default heap': [], '--max-old-space-size=400': ['--max-old-space-size=400'] }

export type Stage = {
  t: Test
  server: Door
  database: FreshDatabase
  /** The attacker's mission, assigned to alice, and her token. */
  id: string
  alice: string
  /** Returns true once the attack must end. */
  over(): boolean
}

const megabytes = async (pid: number): Promise<number> => {
  const [, kilobytes = 0] = /VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, 'utf8')) ?? []
  return Math.round(Number(kilobytes) / 1024)
}
const percentile = (times: number[], part: number): string =>
  (times.toSorted((a, b) => a - b)[Math.min(times.length - 1, Math.floor(times.length * part))] ?? NaN).toFixed(0)

/**
 * As bob, sends 10 messages a second, and as often reads a chat or searches a mission.
 * Returns "p50/p99" in ms for both, and the number of failures.
 */
export const measureUser = async (server: Door, id: string, until: () => boolean): Promise<string> => {
  const client = await server.connect(bob)
  const topic = `missions/${id}/chat/rafael`
  const [sends, reads]: [number[], number[]] = [[], []]
  let failed = 0
  const waiting: Promise<void>[] = []
  const timed = async (into: number[], work: () => Promise<boolean>): Promise<void> => {
    const begun = performance.now()
    if (!(await work().catch(() => false))) failed++
    into.push(performance.now() - begun)
  }
  for (let n = 0; !until(); n++) {
    waiting.push(
      timed(sends, async () => (await client.ask({ type: 'send', topic, message: `${n}` }))['type'] === 'ok'),
      timed(
        reads,
        async () =>
          (await server.request('GET', n % 2 ? `/api/${topic}` : `/api/missions/${id}/search?q=1`, bob)).status === 200,
      ),
    )
    await delay(100)
  }
  await Promise.all(waiting)
  client.close()
  const format = (times: number[]): string => `${percentile(times, 0.5)}/${percentile(times, 0.99)}`
  return `send ${format(sends)}, read ${format(reads)} ms, ${failed} of ${sends.length + reads.length} failed`
}

/** `prepare` fills the database. `attack` runs for 10 s and resolves with a summary of the attacker's answers. */
export const attack = (
  name: string,
  prepare: (stage: Stage) => Promise<unknown>,
  attack: (stage: Stage) => Promise<string>,
): void => {
  for (const [heap, flags] of Object.entries(heaps))
    void t.test(`attack: ${name}, ${heap}`, { timeout: 300_000 }, async (t) => {
      const database = await freshDatabase(t, true)
      const {
        url,
        process: child,
        output,
      } = await spawnServer(t, { DATABASE_URL: database.url, RATE_LIMITS: 'on', MAX_SOCKETS_PER_USER: '100' }, [
        process.execPath,
        ...flags,
        main,
      ])
      const pid = child.pid ?? 0
      const server = door(t, url)
      const { id } = await makeMission(server)
      const { id: other } = await makeMission(server, { assigned_to: 'bob' })
      let ended = false
      const stage: Stage = { t, server, database, id, alice, over: () => ended }
      await prepare(stage)
      const quietEnd = performance.now() + 3000
      const quiet = await measureUser(server, other, () => performance.now() > quietEnd)
      const before = await megabytes(pid)
      let most = before
      const watch = setInterval(
        () =>
          void megabytes(pid).then(
            (now) => (most = Math.max(most, now)),
            () => {},
          ),
        50,
      )
      const end = setTimeout(() => (ended = true), 10_000)
      const [answers, meanwhile] = await Promise.all([attack(stage), measureUser(server, other, () => ended)])
      clearTimeout(end)
      clearInterval(watch)
      if (child.exitCode !== null || child.signalCode !== null) t.comment(output())
      t.strictSame([child.exitCode, child.signalCode], [null, null], 'the instance is alive')
      t.equal(
        await server.request('GET', '/readyz').then(
          ({ status }) => status,
          (error: Error) => `${error.message} ${child.exitCode} ${child.signalCode} ${output().slice(-3000)}`,
        ),
        200,
      )
      await delay(5000)
      t.comment(`${before} MB before, ${most} at most, ${await megabytes(pid)} 5 s after; attacker: ${answers}`)
      t.comment(`the other user before: ${quiet}`)
      t.comment(`the other user meanwhile: ${meanwhile}`)
    })
}

/** Counts equal values: "200 x 12, 429 x 3". */
export const tally = () => {
  const counts = new Map<string, number>()
  return {
    count: (what: unknown): void => void counts.set(String(what), (counts.get(String(what)) ?? 0) + 1),
    summary: (): string => [...counts].map(([what, n]) => `${what} x ${n}`).join(', ') || 'nothing',
  }
}

/** Repeats `work`, `atOnce` at a time, until the attack is over. Resolves with a summary of the results. */
export const keepOn = async (stage: Stage, atOnce: number, work: (n: number) => Promise<unknown>): Promise<string> => {
  const { count, summary } = tally()
  let n = 0
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (!stage.over()) {
        const what = await work(n++).catch((error: Error) => error.message)
        count(what)
        if (what !== 200 && what !== 'ok') await delay(20)
      }
    }),
  )
  return summary()
}
