// The cost and the effect of compression: history pages of several sizes at each level, and a page's ETag. CPU of this process only.
//   node bench/dist/bench/encoding.js
import { createHash, randomUUID } from 'node:crypto'
import { brotliCompressSync, constants, gzipSync } from 'node:zlib'

const words =
  'the bot sends a message with inline buttons when mission changes its status and rafael answers code that can be pasted into handler of callback query'.split(
    ' ',
  )
const text = (count: number): string =>
  Array.from({ length: count }, () => words[Math.floor(Math.random() * words.length)]).join(' ')
/** Every fourth message has code. */
const message = (seq: number) => {
  const code = `export const handler = async (ctx: Context): Promise<void> => {\n  await ctx.reply('${text(5)}')\n}\n`
  return {
    id: randomUUID(),
    mission_id: '47000000-0000-4000-8000-000000000047',
    citizen: 'rafael',
    sender: seq % 2 ? 'user' : 'citizen',
    author: seq % 2 ? 'alice@example.com' : 'rafael',
    message: seq % 4 ? text(30) : `${text(20)}\n\`\`\`ts\n${code}\`\`\``,
    code_blocks: seq % 4 ? null : [{ language: 'ts', code }],
    created_at: new Date().toISOString(),
    seq,
    key: randomUUID(),
  }
}
const ways: Record<string, (body: string) => { length: number }> = {
  'sha1 (the tag)': (body) => createHash('sha1').update(body).digest('base64url'),
  ...Object.fromEntries([1, 4, 6].map((level) => [`gzip ${level}`, (body: string) => gzipSync(body, { level })])),
  ...Object.fromEntries(
    [1, 2, 3, 4, 5].map((quality) => [
      `br ${quality}`,
      (body: string) => brotliCompressSync(body, { params: { [constants.BROTLI_PARAM_QUALITY]: quality } }),
    ]),
  ),
}
for (const count of [2, 5, 50, 500]) {
  const messages = Array.from({ length: count }, (_, n) => message(n + 1))
  const body = JSON.stringify({ messages, last_seq: 1000, has_more: true, epoch: '0123456789abcdef' })
  process.stdout.write(`${count} messages, ${body.length} bytes\n`)
  for (const [name, work] of Object.entries(ways)) {
    const times = Math.max(10, Math.round(10_000 / count))
    for (let n = 0; n < times / 4; n++) work(body)
    const since = process.cpuUsage()
    let length = 0
    for (let n = 0; n < times; n++) length = work(body).length
    const { user, system } = process.cpuUsage(since)
    process.stdout.write(
      `   ${name.padEnd(14)} ${String(length).padStart(6)} bytes  ${((user + system) / times).toFixed(0).padStart(5)} µs\n`,
    )
  }
}
