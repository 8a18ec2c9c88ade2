// The keyboard: single keys outside of text fields, Escape everywhere. The help shows the same table. `act` returns whether it used
// the key.
export type Action =
  | 'next mission'
  | 'previous mission'
  | 'next citizen'
  | 'previous citizen'
  | 'citizen'
  | 'filter'
  | 'search'
  | 'find'
  | 'timeline'
  | 'play'
  | 'back'
  | 'forth'
  | 'write'
  | 'newest'
  | 'unread'
  | 'requests'
  | 'view'
  | 'help'
  | 'leave'

export const keys: { keys: string[]; shown: string[]; what: string; action: Action }[] = [
  { keys: ['j', 'ArrowDown'], shown: ['j', '↓'], what: 'next mission', action: 'next mission' },
  { keys: ['k', 'ArrowUp'], shown: ['k', '↑'], what: 'previous mission', action: 'previous mission' },
  { keys: ['l', 'ArrowRight'], shown: ['l', '→'], what: 'next citizen', action: 'next citizen' },
  { keys: ['h', 'ArrowLeft'], shown: ['h', '←'], what: 'previous citizen', action: 'previous citizen' },
  {
    keys: ['1', '2', '3', '4', '5', '6', '7', '8', '9'],
    shown: ['1', '…', '9'],
    what: 'first to ninth citizen',
    action: 'citizen',
  },
  { keys: ['c', 'Enter'], shown: ['c', 'Enter'], what: 'write a message', action: 'write' },
  { keys: ['/'], shown: ['/'], what: 'search this chat', action: 'search' },
  { keys: ['s'], shown: ['s'], what: 'search the whole mission', action: 'find' },
  { keys: ['f'], shown: ['f'], what: 'filter missions', action: 'filter' },
  { keys: ['n', 'End'], shown: ['n'], what: 'newest message', action: 'newest' },
  { keys: ['u'], shown: ['u'], what: 'first unread message', action: 'unread' },
  { keys: ['r'], shown: ['r'], what: 'requests that wait for your answer', action: 'requests' },
  { keys: ['v'], shown: ['v'], what: 'next view: chat, checklist, tests, …', action: 'view' },
  { keys: ['t'], shown: ['t'], what: 'timeline', action: 'timeline' },
  { keys: [' '], shown: ['Space'], what: 'in the timeline: play, pause', action: 'play' },
  { keys: [','], shown: [','], what: 'in the timeline: previous event', action: 'back' },
  { keys: ['.'], shown: ['.'], what: 'in the timeline: next event', action: 'forth' },
  { keys: ['?'], shown: ['?'], what: 'show these keys', action: 'help' },
  {
    keys: ['Escape'],
    shown: ['Esc'],
    what: 'leave a field or the past, close the drawer or a dialog',
    action: 'leave',
  },
]

const isTextField = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName))
/** Whether an element uses the key itself: a button uses Enter, a scrolling element the arrows. */
const usesKey = (target: EventTarget | null, key: string): boolean => {
  if (!(target instanceof HTMLElement)) return false
  if (key === 'Enter' || key === ' ') return target.closest('a, button, summary, label') !== null
  const scrolls = target.scrollHeight > target.clientHeight || target.scrollWidth > target.clientWidth
  return key.startsWith('Arrow') || key === 'End' ? target !== document.body && target.tabIndex === 0 && scrolls : false
}

export const startKeys = (act: (action: Action, key: string) => boolean): (() => void) => {
  const onKey = (event: KeyboardEvent): void => {
    const { key, target } = event
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return
    if (document.querySelector('dialog[open]')) return
    if (key === 'Escape') {
      if (target instanceof HTMLElement && target !== document.body) target.blur()
      return void act('leave', key)
    }
    if (isTextField(target) || usesKey(target, key)) return
    const found = keys.find((one) => one.keys.includes(key))
    if (!found) return
    if (act(found.action, key)) event.preventDefault()
  }
  addEventListener('keydown', onKey)
  return () => removeEventListener('keydown', onKey)
}
