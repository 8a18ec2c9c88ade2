// What a page keeps of its own: in the tab (session) or in the browser (local). A browser that refuses to keep anything is no fault:
// the page then forgets.
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
