// XML as test runners and their tests print it. Faults of single characters are repaired, so that they do not lose the report.
// Text around the document is skipped. Faults that could hide a test (unmatched tags, a second root) remain errors.

const opening = /<!\[CDATA\[|<!--/
/** The end of a text that the next piece may complete to `opening` or `loose`. */
const unfinished = /(?:<(?:!(?:-|\[[CDAT]{0,5})?)?|&#?\w{0,32})$/
const loose = /&(?!#\d{1,7};|#x[\da-f]{1,6};|[a-z]\w{0,31};)|<(?![a-z_:/!?])|&#(?:(\d{1,7})|x([\da-f]{1,6}));/gi

/** Escapes literal `&` and `<`. References to characters that XML forbids are replaced by the characters. */
const repair = (text: string): string =>
  text.replace(loose, (found, decimal?: string, hex?: string) => {
    if (found === '&') return '&amp;'
    if (found === '<') return '&lt;'
    const code = decimal === undefined ? parseInt(hex ?? '', 16) : Number(decimal)
    const isControl = code < 0x20 && code !== 9 && code !== 10 && code !== 13
    // Java writes an emoji as two references, one for each half.
    return isControl || (code >= 0xd800 && code < 0xe000) ? String.fromCharCode(code) : found
  })

/** Returns a function that repairs a document piece by piece and returns the text that can be parsed. */
export const makeRepair = () => {
  let held = ''
  let until: string | undefined
  return (more: string, isLast = false): string => {
    let text = held + more
    let repaired = ''
    for (;;) {
      if (until === undefined) {
        const start = opening.exec(text)
        if (!start) break
        repaired += repair(text.slice(0, start.index)) + start[0]
        text = text.slice(start.index + start[0].length)
        until = start[0] === '<!--' ? '-->' : ']]>'
      } else {
        const end = text.indexOf(until)
        if (end < 0) break
        repaired += text.slice(0, end + until.length)
        text = text.slice(end + until.length)
        until = undefined
      }
    }
    const kept = isLast ? 0 : until === undefined ? (unfinished.exec(text)?.[0].length ?? 0) : Math.min(2, text.length)
    held = text.slice(text.length - kept)
    const ready = text.slice(0, text.length - kept)
    return repaired + (until === undefined ? repair(ready) : ready)
  }
}

/** Errors after which saxes continues without loss: characters in texts and values, comments, and text around the document. */
export const isHarmless = (message: string): boolean =>
  /disallowed character(\.| in tag name)$|malformed comment|the string "\]\]>"|text data outside of root/.test(message)

const root = /<\?xml\s|<!DOCTYPE|<!--|<testsuites?[\s/>]/
const mostBefore = 1024 * 1024

/** Returns a function that skips text before the document. It returns undefined if no document begins within the first MiB. */
export const makeSkip = () => {
  let before: string | undefined = ''
  return (more: string): string | undefined => {
    if (before === undefined) return more
    before += more
    const start = root.exec(before)
    if ((start?.index ?? before.length) > mostBefore) return undefined
    if (!start) return ''
    const text = before.slice(start.index)
    before = undefined
    return text
  }
}
