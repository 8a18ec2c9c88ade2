// A passage with its hits marked. The server sends text and positions, never markup.
import type { ComponentChildren } from 'preact'

export const Snippet = ({ text, hits }: { text: string; hits: number[][] }) => {
  const parts: ComponentChildren[] = []
  let at = 0
  for (const [start = 0, length = 0] of hits) {
    parts.push(text.slice(at, start), <mark key={start}>{text.slice(start, start + length)}</mark>)
    at = start + length
  }
  return (
    <span class="snippet">
      {parts}
      {text.slice(at)}
    </span>
  )
}
