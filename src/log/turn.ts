// One after the other: whoever looks through many rows takes one connection at a time, and leaves the others to those who
// read a page. One that fails holds up nobody behind it.

export type Turn = <T>(work: () => Promise<T>) => Promise<T>

export const makeTurn = (): Turn => {
  let turn: Promise<unknown> = Promise.resolve()
  return (work) => {
    const mine = turn.then(work)
    turn = mine.catch(() => {})
    return mine
  }
}
