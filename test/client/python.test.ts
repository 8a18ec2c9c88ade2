// The Python client: its own tests against a server, its README, a change of the database, and workers under kills.
// 10,000 events and 500 questions: test/long/python.ts.
import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { spawnSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { killWorkers } from '../faults/kills.ts'
import { root } from '../support/processes.ts'
import { client, python, startPython, withoutPython } from '../support/python.ts'
import { pythonWorker } from '../support/python-worker.ts'
import { alice, leak, makeMission, rafael, secret, startDeck, until } from '../support/server.ts'
import { startWire } from '../support/socket-proxy.ts'

t.setTimeout(280_000)
const skip = withoutPython

void t.test('python: its version and its dependency are those of the package', (t) => {
  const project = readFileSync(join(client, 'pyproject.toml'), 'utf8')
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  t.match(project, new RegExp(`^version = "${version.replaceAll('.', '\\.')}"$`, 'm'))
  t.match(project, /^dependencies = \["httpx>=[\d.]+"\]$/m)
  const sources = readdirSync(join(client, 'mission_deck')).filter((file) => file.endsWith('.py'))
  const imported = sources.flatMap((file) =>
    [...readFileSync(join(client, 'mission_deck', file), 'utf8').matchAll(/^(?:import|from) ([a-z_]\w*)/gm)].map(
      ([, name = '']) => name,
    ),
  )
  const other = [...new Set(imported)].filter((name) => !['__future__', 'httpx'].includes(name)).sort()
  // The standard library only.
  t.strictSame(other, [
    'asyncio',
    'collections',
    'contextlib',
    'inspect',
    'json',
    'logging',
    'random',
    're',
    'signal',
    'types',
    'typing',
    'urllib',
    'uuid',
  ])
  t.end()
})

void t.test('python: its own tests pass against this server', { skip }, async (t) => {
  const { instance } = await startDeck(t)
  const modules = readdirSync(join(client, 'tests')).filter((file) => /^test_.*\.py$/.test(file))
  t.ok(modules.length > 2)
  await Promise.all(
    modules.map(async (file) => {
      const run = startPython(t, ['-m', 'unittest', `tests.${file.replace('.py', '')}`], {
        DECK_URL: instance.url,
        JWT_SECRET: secret,
      })
      const code = await run.ended
      t.notMatch(run.out() + run.err(), leak)
      t.equal(
        code,
        0,
        code === 0 ? `${file}: ${/Ran \d+ tests/.exec(run.err())?.[0]}` : run.err().replace(new RegExp(leak, 'g'), '…'),
      )
    }),
  )
})

void t.test(
  'python: the example of its README answers, as pasted in a new virtual environment',
  { skip },
  async (t) => {
    const { instance } = await startDeck(t)
    const { id } = await makeMission(instance)
    const [, example = ''] = /```python\n([^]*?)```/.exec(readFileSync(join(client, 'README.md'), 'utf8')) ?? []
    t.ok(example.trim().split('\n').filter(Boolean).length <= 12, 'it has up to 12 lines')
    const folder = await mkdtemp(join(tmpdir(), 'mission-deck-python-'))
    t.teardown(() => rm(folder, { recursive: true, force: true }))
    const { status, stderr } = spawnSync(python ?? '', [
      '-m',
      'venv',
      '--without-pip',
      '--system-site-packages',
      folder,
    ])
    t.equal(status, 0, String(stderr))
    await writeFile(join(folder, 'agent.py'), example.replace('http://127.0.0.1:3000', instance.url))
    const run = startPython(
      t,
      ['-c', `import os, sys; os.execv('bin/python', ['python', 'agent.py'])`],
      { DECK_TOKEN: rafael },
      folder,
    )
    const follower = await instance.connect(alice)
    const topic = `missions/${id}/chat/rafael`
    await follower.ask({ type: 'subscribe', topic, after: 0 })
    await follower.ask({ type: 'send', topic, message: 'Does it run?' })
    const reply = await follower.frame(({ type, data }) => {
      if (run.child.exitCode !== null) throw new Error(run.err())
      return type === 'event' && (data as { sender: string }).sender === 'citizen'
    }, 'the reply')
    t.match(reply['data'], { message: /Does it run\?/, author: 'rafael' })
    t.ok(
      follower.frames.some(({ type }) => type === 'delta'),
      'it was shown while it was written',
    )
    run.child.kill('SIGTERM')
    t.equal(await run.ended, 0, run.err())
  },
)

void t.test(
  'python: a follower receives a reset and the chat from its start after a change of the database',
  { skip },
  async (t) => {
    const [one, two] = [await startDeck(t), await startDeck(t)]
    const { id } = await makeMission(one.instance)
    const columns = 'id, number, title, client, budget, deadline, status, assigned_to'
    const rows = await one.database.query(`select ${columns} from missions where id = $1`, [id])
    await two.database.query(
      `insert into missions (${columns}) values ($1, $2, $3, $4, $5, $6, $7, $8)`,
      Object.values(rows[0] ?? {}),
    )
    const path = `/api/missions/${id}/chat/rafael`
    for (const message of ['one', 'two', 'three']) await one.instance.request('POST', path, alice, { message })
    await two.instance.request('POST', path, alice, { message: 'other' })
    const wire = await startWire(t, one.instance.url)
    const run = startPython(
      t,
      [
        '-c',
        `
import asyncio, os
from mission_deck import Deck

async def main():
    async with Deck(os.environ["DECK_URL"], os.environ["TOKEN"]) as deck:
        async for event in deck.chat("${id}", "rafael").follow(after=0):
            print(event.event, event.seq, event.data and event.data.message, event.epoch, flush=True)

asyncio.run(main())`,
      ],
      { DECK_URL: wire.url, TOKEN: alice },
    )
    const lines = (): string[] => run.out().split('\n').filter(Boolean)
    await until(() => lines().length === 3, 'the chat of the first database')
    wire.target = two.instance.url
    wire.cut()
    await until(() => lines().length === 5, 'the chat of the second one')
    const { json } = await two.instance.request('GET', path, alice)
    t.strictSame(lines(), [
      'message.created 1 one None',
      'message.created 2 two None',
      'message.created 3 three None',
      `reset 1 None ${String(json['epoch'])}`,
      'message.created 1 other None',
    ])
  },
)

void t.test('python: two workers under random kills answer 30 questions once each', { skip }, (t) =>
  killWorkers(t, { questions: 30, ...pythonWorker, killEvery: 1500, most: 5, pause: 120 }),
)
