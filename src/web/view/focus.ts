// Where the focus goes when what had it goes away: without this the next Tab would begin at the top of the page.
export const keepFocus = (selector: string): void => {
  // After what was changed is rendered, and what that loads.
  requestAnimationFrame(() =>
    requestAnimationFrame(() => {
      if (document.activeElement === document.body || document.activeElement === null)
        document.querySelector<HTMLElement>(selector)?.focus({ preventScroll: true })
    }),
  )
}
