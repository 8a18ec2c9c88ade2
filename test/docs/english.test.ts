// Plain English: the files of these folders contain no word or phrase that readers must decode.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/processes.ts'

const folders = ['db', 'src', 'test']
const exempt = /^test\/(fixtures|reports)\/|^test\/docs\/english\.test\.ts$/
const banned =
  'whoever|is told|are told|tells of|of ours|at the most|for ever|another one|is none|passed over|goes on after|who is not|what is to be'
/** Server texts that tests match; they may contain banned words. */
const quoted: string[] = []
const pattern = new RegExp(`\\b(?:${banned})\\b`, 'gi')
const faultsOf = (text: string): string[] =>
  quoted.reduce((rest, quote) => rest.replaceAll(quote, ''), text).match(pattern) ?? []

void t.test('english: db, src and test contain no banned word or phrase', (t) => {
  t.strictSame(faultsOf('Whoever is told: for\u0020ever'), ['Whoever', 'is told', 'for ever'])
  const files = folders.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(root.length).replace(/^\//, '')),
  )
  t.ok(files.length > 100)
  for (const file of files.filter((file) => !exempt.test(file)))
    for (const [at, line] of readFileSync(join(root, file), 'utf8').split('\n').entries())
      for (const word of faultsOf(line)) t.fail(`${file}:${at + 1}: ${word}`)
  t.end()
})
