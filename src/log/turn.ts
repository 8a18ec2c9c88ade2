// A turn: work that is done one after the other, so that those who share it take one connection at a time, and whoever needs
// another waits for one of them at the most.
export const makeTurn = () => {
  let turn: Promise<unknown> = Promise.resolve()
  return <T>(work: () => Promise<T>): Promise<T> => {
    const mine = turn.then(work)
    turn = mine.catch(() => {})
    return mine
  }
}
