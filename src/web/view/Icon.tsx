// The page's icons, drawn in the colour of the surrounding text. The text beside an icon, or the button's label, gives its meaning.
const paths = {
  send: 'M4 12 20 4l-5 16-3.5-6.5z M11.5 13.5 20 4',
  stop: 'M7 7h10v10H7z',
  copy: 'M9 9h10v11H9z M6 15H5V4h10v2',
  search: 'M10.5 17a6.5 6.5 0 1 1 0-13 6.5 6.5 0 0 1 0 13z M15.5 15.5 20 20',
  menu: 'M4 7h16M4 12h16M4 17h16',
  close: 'M6 6l12 12M18 6 6 18',
  down: 'M12 5v14M6 13l6 6 6-6',
  up: 'M12 19V5M6 11l6-6 6 6',
  check: 'M5 12.5 10 17l9-10',
  play: 'M8 5.5v13l10-6.5z',
  out: 'M14 4h5v16h-5M4 12h10M10 8l4 4-4 4',
  panel: 'M4 5h16v14H4zM14.5 5v14',
  keys: 'M3.5 7h17v10h-17zM7 10.5h.01M10.3 10.5h.01M13.6 10.5h.01M17 10.5h.01M8 14h8',
  pause: 'M8 6v12M16 6v12',
  back: 'M17 6v12l-8-6zM6.5 6v12',
  forth: 'M7 6v12l8-6zM17.5 6v12',
  clock: 'M12 20.5a8.5 8.5 0 1 1 0-17 8.5 8.5 0 0 1 0 17zM12 7.5V12l3 2',
  open: 'M12 19a7 7 0 1 1 0-14 7 7 0 0 1 0 14z',
  go: 'M8 16 16 8M9 8h7v7',
  repo: 'M9 8l-4 4 4 4M15 8l4 4-4 4',
} as const

export const Icon = ({ name }: { name: keyof typeof paths }) => (
  <svg class="icon" viewBox="0 0 24 24" width="18" height="18" aria-hidden="true" focusable="false">
    <path d={paths[name]} />
  </svg>
)
