// The page's storage: in the tab (session) or in the browser (local). If the browser refuses storage, nothing fails:
// the page only forgets.
const make = (store: () => Storage) => ({
  get(name: string): string | null {
    try {
      return store().getItem(name)
    } catch {
      return null
    }
  },
  set(name: string, value: string | null): void {
    try {
      if (value === null || value === '') store().removeItem(name)
      else store().setItem(name, value)
    } catch {}
  },
  names(): string[] {
    try {
      return Object.keys(store())
    } catch {
      return []
    }
  },
})
export const tab = make(() => sessionStorage)
export const browser = make(() => localStorage)

// A large value takes longer to write than a frame lasts: it is written in a task of its own, once however often it changed until then.
const waiting = new Map<string, () => string | null>()
const flush = (): void => {
  for (const [name, value] of waiting) tab.set(name, value())
  waiting.clear()
}
addEventListener('pagehide', flush)

/** Keeps a value in the tab: written in the next task, or when the page is left. */
export const keep = (name: string, value: () => string | null): void => {
  if (waiting.size === 0) setTimeout(flush)
  waiting.set(name, value)
}
/** What the tab keeps under a name. */
export const kept = (name: string): string | null => {
  flush()
  return tab.get(name)
}
