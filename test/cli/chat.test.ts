// say and tail against a server: their output and exit codes. tail misses nothing when the server restarts.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { makePrinter } from '../../src/cli/markdown-printer.ts'
import { makeReplyView } from '../../src/cli/reply-printer.ts'
import type { Io } from '../../src/cli/output.ts'
import type { Message } from '../../src/protocol/rows.ts'
import { deck, folder, start } from '../support/cli.ts'
import { alice, makeMission, secret, startDeck, startInstance, until, type Json } from '../support/server.ts'

const lines = (out: string): Json[] =>
  out
    .trimEnd()
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Json)

const open = async (t: Test) => {
  const { database, instance } = await startDeck(t)
  const { id, number } = await makeMission(instance)
  const env = { DECK_URL: instance.url, DECK_TOKEN: alice }
  return { database, instance, id, mission: String(number), env, topic: `missions/${id}/chat/rafael` }
}

void t.test('say: stores a message once, from an argument, from stdin or with code from files', async (t) => {
  const { env, mission, instance, id } = await open(t)
  await writeFile(join(folder, 'bot.py'), 'x = 1\n')
  t.match(await deck(t, ['say', mission, 'rafael', 'Does it run?'], env), { code: 0, out: '#1 is stored\n', err: '' })
  const piped = await deck(t, ['say', id, 'rafael', '-', '--json', '--key', 'k'], env, 'it *does*\n\n')
  t.match(JSON.parse(piped.out), { seq: 2, message: 'it *does*\n', key: 'k', author: 'alice', sender: 'user' })
  const again = await deck(t, ['say', id, 'rafael', 'it *does*\n', '--key', 'k'], env)
  t.match(again, { code: 0, out: '#2 is stored\n' })
  const code = await deck(
    t,
    ['say', mission, 'rafael', 'see', '--code', 'python:bot.py', '--code', ':bot.py', '--json'],
    env,
  )
  t.match(JSON.parse(code.out), { seq: 3, code_blocks: [{ language: 'python', code: 'x = 1\n' }, { language: null }] })
  const { json } = await instance.request('GET', `/api/missions/${id}/chat/rafael`, alice)
  t.equal(json['last_seq'], 3)
})

void t.test('say, tail: a reply names the message that it answers, by its seq or its ID', async (t) => {
  const { env, mission, instance, id } = await open(t)
  const first = await deck(t, ['say', mission, 'rafael', 'Does it run?', '--json'], env)
  const question = String((JSON.parse(first.out) as Json)['id'])
  for (const name of ['1', '#1', question]) {
    const reply = await deck(t, ['say', mission, 'rafael', 'It does.', '--reply-to', name, '--json'], env)
    t.match(JSON.parse(reply.out), { in_reply_to: question }, name)
  }
  t.match(await deck(t, ['say', mission, 'rafael', 'x', '--reply-to', '99'], env), { code: 1, err: /no message #99/ })
  const elsewhere = await deck(t, ['say', mission, 'sofia', 'x', '--reply-to', question], env)
  t.match(elsewhere, { code: 1, err: /reply_to/ })
  t.match(await deck(t, ['say', mission, 'rafael', 'x', '--reply-to', 'y'], env), { code: 2 })
  const { json } = await instance.request('GET', `/api/missions/${id}/chat/rafael`, alice)
  t.equal(json['last_seq'], 4)
  const tail = start(t, ['tail', mission, 'rafael'], env)
  await until(() => /answers #1[^]*answers #1[^]*answers #1/.test(tail.out()), 'the answered message')
  tail.child.kill('SIGINT')
  await tail.ended
})

void t.test(
  "say: takes the token from a file, the environment or this folder's server, and never prints it",
  async (t) => {
    const { env, mission } = await open(t)
    const { DECK_URL } = env
    await writeFile(join(folder, 'token'), `${alice}\n`)
    await writeFile(join(folder, 'jwt-secret'), secret)
    const say = ['say', mission, 'rafael', 'hi']
    t.match(await deck(t, [...say, '--token-file', 'token'], { DECK_URL }), { code: 0, err: '' })
    const own = await deck(t, [...say, '--as', 'alice'], { DECK_URL, DATA_DIR: folder })
    t.match(own, { code: 0, err: "acting as alice, with the secret of this folder's server\n" })
    const refused: [string[], NodeJS.ProcessEnv, number, string, RegExp][] = [
      [say, { DECK_URL, DATA_DIR: folder }, 1, 'not_found', /no such mission/],
      [say, { DECK_URL }, 1, 'unauthorized', /DECK_TOKEN or --token-file/],
      [say, { DECK_URL: 'http://deck.invalid', DATA_DIR: folder }, 1, 'unauthorized', /DECK_TOKEN or --token-file/],
      [say, { DECK_URL, DECK_TOKEN: `${alice.slice(0, -2)}xx` }, 1, 'unauthorized', /token/],
      [[...say, '--token-file', 'nowhere'], { DECK_URL }, 1, 'not_found', /nowhere/],
      [[...say, '--as', 'bob'], env, 2, 'bad_request', /--as/],
      [say, { ...env, DECK_URL: 'ftp://x' }, 2, 'bad_request', /--url/],
      [say, { ...env, DECK_URL: 'http://u:hush@127.0.0.1' }, 2, 'bad_request', /--url/],
      [say, { ...env, DECK_URL: 'http://127.0.0.1:1' }, 1, 'unavailable', /no server answers at http:\/\/127/],
      [['say', mission, 'rafael', ''], env, 1, 'bad_request', /./],
      [['say', mission, 'Rafael', 'x'], env, 2, 'bad_request', /citizen/],
      [['say', 'x', 'rafael', 'x'], env, 2, 'bad_request', /mission/],
      [['tail', mission, 'rafael', '-n', '501'], env, 1, 'bad_request', /limit/],
    ]
    await Promise.all(
      refused.map(async ([args, given, code, name, detail]) => {
        const ended = await deck(t, [...args, '--json'], given)
        t.match(ended, { code, out: '' }, args.join(' '))
        t.match(JSON.parse(ended.err), { code: name, detail }, args.join(' '))
        t.notMatch(ended.err, /hush/)
      }),
    )
    const bytes = await deck(t, ['say', mission, 'rafael', '-'], env, Buffer.from([0x68, 0xff]))
    t.match(bytes, { code: 1, err: /not UTF-8/ })
  },
)

void t.test('tail: prints history and live messages across a restart of the server, until interrupted', async (t) => {
  const { database, instance, env, mission, id, topic } = await open(t)
  const post = (on: typeof instance, message: string) => on.request('POST', `/api/${topic}`, alice, { message })
  for (let n = 1; n <= 3; n++) await post(instance, `message ${n}`)
  const follows = start(t, ['tail', mission, 'rafael', '-n', '2', '--json'], env)
  const whole = start(t, ['tail', id, 'rafael', '--after', '0', '--json'], env)
  const shown = start(t, ['tail', mission, 'rafael'], env)
  // Everything that the third one prints from here arrives over its socket.
  const begun = () => lines(follows.out()).length === 2 && lines(whole.out()).length === 3
  await until(() => begun() && shown.out().includes('message 3'), 'the history')
  await post(instance, 'four:\n```js\nf()\n```\n\x1b[31m')
  await until(
    () => [follows, whole].every(({ out }) => out().includes('four')) && shown.out().includes('four'),
    'the live message',
  )
  const port = Number(new URL(instance.url).port)
  await instance.close()
  await until(() => shown.err().includes('connection was lost'), 'the loss')
  const second = await startInstance(t, database.url, { port })
  await post(second, 'five')
  await until(() => [follows, whole, shown].every(({ out }) => out().includes('five')), 'the message after the restart')
  for (const { child } of [follows, whole, shown]) child.kill('SIGINT')
  const ended = await Promise.all([follows, whole, shown].map(({ ended }) => ended))
  t.strictSame(
    ended.map(({ code }) => code),
    [130, 130, 130],
  )
  t.strictSame(
    lines(follows.out()).map(({ seq }) => seq),
    [2, 3, 4, 5],
  )
  t.strictSame(
    lines(whole.out()).map(({ seq }) => seq),
    [1, 2, 3, 4, 5],
  )
  t.match(lines(whole.out())[4], { event: 'message.created', data: { message: 'five', seq: 5 } })
  t.match(shown.out(), /^alice #1 \d{4}-\d\d-\d\d \d\d:\d\d\nmessage 1\n\n/)
  t.match(shown.out(), '\nfour:\n```js\nf()\n```\n\ufffd[31m\n')
})

/** A terminal that records its output; colours appear as <colour>…</>. */
const screen = () => {
  let seen = ''
  const io: Io = {
    json: false,
    live: true,
    paint: (colour, text) => `<${colour}>${text}</>`,
    print: (line) => void (seen += `${line}\n`),
    write: (text) => void (seen += text),
    note: () => {},
  }
  return { io, seen: () => seen }
}

void t.test('terminal: prose is printed at once and code line by line, the same for any chunks', (t) => {
  const text = 'Use `a`:\n\n```ts\nconst a = 1 /* from\nhere */ + 2\n```\n~~~\nplain ```\n~~~\nSo `b`'
  const write = (...pieces: string[]): string => {
    const { io, seen } = screen()
    const printer = makePrinter(io)
    for (const piece of pieces) printer.write(piece)
    printer.end()
    return seen()
  }
  const whole = write(text)
  t.equal(write(...text), whole)
  t.equal(write(text.slice(0, 21), text.slice(21)), whole)
  t.match(whole, 'Use `a`:\n\n<dim>```ts</>\n<dim>│</> <magenta>const</>')
  t.match(whole, '<dim>here */</>', 'a comment that began on the previous line')
  t.match(whole, '<dim>│</> plain ```\n<dim>~~~</>\nSo `b`\n')
  const { io, seen } = screen()
  makePrinter(io).write('half a senten')
  t.equal(seen(), 'half a senten')
  t.end()
})

void t.test('terminal: a reply grows, restarts with its writer, and is interrupted by other messages', (t) => {
  const message = (more: Partial<Message>): Message => ({
    id: '1',
    mission_id: '1',
    citizen: 'rafael',
    sender: 'citizen',
    author: 'rafael',
    message: '',
    code_blocks: null,
    created_at: '2030-01-01T10:00:00Z',
    seq: 1,
    key: null,
    in_reply_to: null,
    ...more,
  })
  const { io, seen } = screen()
  const view = makeReplyView(io)
  const grow = (key: string, text: string) => view.grow({ key, citizen: 'rafael', text })
  grow('a', 'It ')
  grow('a', 'It does')
  t.ok(view.stored(message({ message: 'It does.', key: 'a', seq: 7 })))
  t.equal(seen(), '<bold>rafael</> <dim>…</>\nIt does.\n<dim>#7 2030-01-01 10:00</>\n\n')
  grow('b', 'One')
  grow('b', 'Two')
  t.match(seen(), 'One\n<dim>(started over)\n</>Two')
  grow('c', 'not shown while another reply grows')
  t.notOk(view.stored(message({ message: 'between', sender: 'user' })))
  t.match(seen(), 'Two\n<dim>(to be continued)\n</>')
  grow('b', 'Two and more')
  t.notOk(view.stored(message({ message: 'Two and more', key: 'b' })), 'the caller prints the whole message')
  grow('d', 'x')
  view.aborted('d')
  t.match(seen(), /x\n<dim>\(aborted\)\n<\/>\n$/)
  t.notMatch(seen(), /not shown|and more/)
  t.end()
})

void t.test('terminal: the steps of a reply are lines of their own, each change once', (t) => {
  const { io, seen } = screen()
  const view = makeReplyView(io)
  const draft = { key: 'a', citizen: 'rafael' }
  const read = { id: '1', line: 'Reads', status: 'running' } as const
  view.grow({ ...draft, text: '', activity: [read] })
  view.grow({ ...draft, text: 'It ', activity: [{ ...read, status: 'done' }] })
  const run = { id: '2', line: 'Runs\n\x1b[31mtests', status: 'failed' } as const
  view.grow({ ...draft, text: 'It ', activity: [{ ...read, status: 'done' }, run] })
  view.grow({ ...draft, text: 'It does', activity: [{ ...read, status: 'done' }, run] })
  t.equal(
    seen(),
    '<bold>rafael</> <dim>…</>\n<dim>· Reads\n</>It \n<dim>✓ Reads\n</><dim>✗ Runs \ufffd[31mtests\n</>does',
  )
  t.end()
})
