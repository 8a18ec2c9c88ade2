// Frames and requests that are not answered yet. A shutdown waits for them.

export type Work = {
  begin(): void
  end(): void
  /** Resolves once nothing is in flight. */
  idle(): Promise<void>
}

export const makeWork = (): Work => {
  let under = 0
  const idlers: (() => void)[] = []
  return {
    begin: () => void under++,
    end() {
      if (--under === 0) for (const wake of idlers.splice(0)) wake()
    },
    idle: () => (under === 0 ? Promise.resolve() : new Promise((resolve) => idlers.push(resolve))),
  }
}
