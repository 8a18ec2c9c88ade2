// The missions on a narrow page: a drawer over the rest, which is inert while it is open. The drawer gets the focus; when it closes (by a
// choice, Escape, its button, or a wider window), the focus returns.
import { signal } from '@preact/signals'
import { useEffect } from 'preact/hooks'

const narrow = matchMedia('(max-width: 819px)')
let before: Element | null = null
let first = ''

export const drawerOpen = signal(false)

/** Opens the drawer if the page is narrow. `focus`: the selector of the element that gets the focus. */
export const openDrawer = (focus = '.mission.here'): void => {
  if (drawerOpen.peek() || !narrow.matches) return
  before = document.activeElement
  first = focus
  drawerOpen.value = true
}
export const closeDrawer = (): void => void (drawerOpen.value = false)

/** Moves the focus; a change of `place` closes the drawer. */
export const useDrawer = (place: string): boolean => {
  const open = drawerOpen.value
  useEffect(() => closeDrawer, [place])
  useEffect(() => {
    narrow.addEventListener('change', closeDrawer)
    return () => narrow.removeEventListener('change', closeDrawer)
  }, [])
  useEffect(() => {
    if (!open) return
    const side = document.getElementById('side')
    ;(side?.querySelector<HTMLElement>(first) ?? side)?.focus()
    return () => {
      if (before instanceof HTMLElement && before !== document.body && before.isConnected) before.focus()
      else document.getElementById('menu')?.focus()
    }
  }, [open])
  return open
}
