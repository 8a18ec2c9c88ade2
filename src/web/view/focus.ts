// Moves the focus when the focused element is removed. Otherwise the next Tab would begin at the top of the page.
export const keepFocus = (selector: string): void => {
  // After the change is rendered, and after the parts that it loads.
  requestAnimationFrame(() =>
    requestAnimationFrame(() => {
      if (document.activeElement === document.body || document.activeElement === null)
        document.querySelector<HTMLElement>(selector)?.focus({ preventScroll: true })
    }),
  )
}
