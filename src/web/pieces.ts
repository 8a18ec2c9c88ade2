// Splits a text that grows at its end, and may lose its beginning, into pieces. The browser lays out only pieces that change.

/** Characters of a piece, which ends with a line. */
const mostChars = 8000

export type Piece = { id: number; text: string }

export const makePieces = () => {
  let text = ''
  let pieces: Piece[] = []
  let ids = 0
  const add = (more: string): void => {
    const last = pieces.at(-1)
    let rest = (last?.text ?? '') + more
    let id = last?.id ?? ids++
    pieces = pieces.slice(0, -1)
    while (rest.length > mostChars) {
      const end = rest.lastIndexOf('\n', mostChars - 1) + 1 || mostChars
      pieces.push({ id, text: rest.slice(0, end) })
      rest = rest.slice(end)
      id = ids++
    }
    pieces.push({ id, text: rest })
  }
  /** Returns how many characters the text lost at its start; undefined if it does not continue the former text. */
  const lostBy = (now: string): number | undefined => {
    if (now.startsWith(text)) return 0
    const last = pieces.at(-1)?.text ?? ''
    const place = now.indexOf(last)
    const lost = text.length - last.length - place
    return place >= 0 && lost > 0 && now.startsWith(text.slice(lost)) ? lost : undefined
  }
  return (now: string): readonly Piece[] => {
    if (now === text) return pieces
    let lost = lostBy(now)
    if (lost === undefined) {
      text = ''
      pieces = []
      lost = 0
    }
    const begin = text.length - lost
    for (let first = pieces[0]; first && lost > 0; first = pieces[0]) {
      pieces = pieces.slice(1)
      if (first.text.length > lost) pieces.unshift({ ...first, text: first.text.slice(lost) })
      lost -= first.text.length
    }
    text = now
    add(now.slice(begin))
    return pieces
  }
}
