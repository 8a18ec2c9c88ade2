// A page's events about the network. Node has no such events.

type Target = { [name in 'addEventListener' | 'removeEventListener']?: (type: string, listener: () => void) => void }

/**
 * `back`: the network is back, or the page is visible again; `gone`: the network is gone. Returns a function that removes the
 * listeners.
 */
export const onNetwork = (back: () => void, gone: () => void): (() => void) => {
  const page = globalThis as unknown as Target & { document?: Target }
  const listeners = [
    [page, 'online', back],
    [page, 'offline', gone],
    [page.document, 'visibilitychange', back],
  ] as const
  for (const [target, name, listener] of listeners) target?.addEventListener?.(name, listener)
  return () => {
    for (const [target, name, listener] of listeners) target?.removeEventListener?.(name, listener)
  }
}
