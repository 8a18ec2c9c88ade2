// The page's icon in the browser's tab: with a dot while something needs the reader.
import svg from './icon.svg?raw'

const dot = '<circle cx="25" cy="7" r="7" fill="#d92d20" stroke="#fff" stroke-width="1.5"/></svg>'
const marked = `data:image/svg+xml,${encodeURIComponent(svg.trim().replace('</svg>', dot))}`
let plain: string | undefined

export const showIcon = (news: boolean): void => {
  const link = document.querySelector<HTMLLinkElement>('link[rel=icon]')
  if (!link) return
  plain ??= link.href
  const href = news ? marked : plain
  if (link.href !== href) link.href = href
}
