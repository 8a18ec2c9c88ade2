// Where in a text the words of a search are, by Postgres, which told that they are there: its parser divides words, not ours.
// A text is given back with each word between two marks; all else of it stays where it stands.
import type pg from 'pg'
import type { Span } from '../protocol/snippet.ts'

/** UTF-16 code units of texts that a statement takes, but for one text. */
const most = 512 * 1024

// Of words and of gaps of 2,047 bytes of UTF-8 or more the headline leaves nothing, and what follows would be out of place: they
// are taken for short words.
const long = /[\p{L}\p{M}\p{N}_+-]{500,}|[^\p{L}\p{M}\p{N}_]{500,}/gu
const longBytes = 2000
const short = 'zqxj '
/** As deck.words has it, of the same length; \x01 and \x02 are the marks. */
const plain = (text: string): string =>
  text
    // eslint-disable-next-line no-control-regex -- they are what is looked for
    .replace(/[<>&./\\:@~?=%#\x01\x02]/g, ' ')
    .replace(long, (run) =>
      Buffer.byteLength(run) > longBytes ? short.repeat(run.length / short.length + 1).slice(0, run.length) : run,
    )

/** The marks' places in the text without them; nothing if that is not the text, nor where it was made up. */
const spansOf = (marked: string, text: string, original: string): Span[] => {
  const spans: Span[] = []
  let start = 0
  let marks = 0
  for (let i = 0; i < marked.length; i++) {
    const code = marked.charCodeAt(i)
    if (code === 1) start = i - marks++
    else if (code === 2) spans.push([start, i - marks++ - start])
  }
  if (marked.length - marks !== text.length) return []
  return spans.filter(([at, size]) => original.slice(at, at + size) === text.slice(at, at + size))
}

/** `main` is for reading; one statement at a time. */
export const makeSnippets =
  (main: pg.Pool) =>
  /** The spans of each text; `marked` is of log/words, null where nothing is to be marked. */
  async (marked: string | null, texts: string[]): Promise<Span[][]> => {
    const spans: Span[][] = []
    if (marked === null) return texts.map(() => [])
    for (let from = 0; from < texts.length;) {
      const part: string[] = []
      for (let size = 0; from + part.length < texts.length && (part.length === 0 || size < most);) {
        const text = plain(texts[from + part.length] ?? '')
        part.push(text)
        size += text.length
      }
      const { rows } = await main.query<{ marked: string }>({
        name: 'snippets',
        text: `select ts_headline('pg_catalog.simple', t.text, $2::tsquery, 'HighlightAll=true, StartSel=' || E'\\x01' || ', StopSel=' || E'\\x02') as marked
               from unnest($1::text[]) with ordinality t (text, n) order by t.n`,
        values: [part, marked],
      })
      spans.push(...rows.map(({ marked }, i) => spansOf(marked, part[i] ?? '', texts[from + i] ?? '')))
      from += part.length
    }
    return spans
  }
export type Snippets = ReturnType<typeof makeSnippets>
