// Web and mail addresses that stand in a text without any marks, as GitHub finds them.

export const bare =
  /(?<![\p{L}\p{N}_])(?:https?:\/\/|www\.)[^\s<>[\]`。，、；：？！）」』】》]+|(?<![\w.+-])[\w.+-]{1,64}@[a-z\d-]{1,63}(?:\.[a-z\d-]{1,63}){1,8}/giu

/** An address without what belongs to the sentence: punctuation at its end, and parentheses that it did not open. */
export const trimmed = (written: string): string => {
  let end = written.length
  let excess = 0
  for (const char of written) excess += char === ')' ? 1 : char === '(' ? -1 : 0
  for (; end > 0; end--) {
    const char = written[end - 1] as string
    if (char === ')' && excess > 0) excess--
    else if (!/[?!.,:;*_~'"]/.test(char)) break
  }
  return written.slice(0, end)
}

/** The link for a bare address; undefined if the text is not an address. */
export const hrefOf = (written: string): string | undefined => {
  if (/^https?:\/\/./i.test(written)) return written
  if (/^www\.[^.]+\../i.test(written)) return `http://${written}`
  return written.includes('@') ? `mailto:${written}` : undefined
}
