// Line reader: splits the bytes of an import into lines, whatever chunks they come in.
import { Readable } from 'node:stream'
import t from 'tap'
import { readLines } from '../../src/database/transfer/line-reader.ts'

const read = async (bytes: Buffer, size: number, most = Infinity): Promise<(string | undefined)[]> => {
  const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, n) =>
    bytes.subarray(n * size, (n + 1) * size),
  )
  const found: (string | undefined)[] = []
  for await (const { lines } of readLines(Readable.from(chunks), () => most))
    found.push(...lines.map((line) => line?.toString()))
  return found
}

void t.test('line reader: returns the same lines for any chunk size, without a byte order mark', async (t) => {
  const text = Buffer.from('\ufeffone\n\ufefftwo\n\nfünf\nlast')
  for (let size = 1; size <= text.length; size++)
    t.strictSame(await read(text, size), ['one', '\ufefftwo', '', 'fünf', 'last'], `chunks of ${size}`)
  t.strictSame(await read(Buffer.from('\ufeff'), 1), [''])
})

void t.test('line reader: a line over the limit is undefined, the next is read', async (t) => {
  const text = Buffer.from(`${'x'.repeat(30)}\nshort\n`)
  for (const size of [1, 7, 50]) t.strictSame(await read(text, size, 10), [undefined, 'short'], `chunks of ${size}`)
})
