// The page's addresses: /deck/missions/47/rafael/tests is a mission's number, a citizen and a view beside the chat.
// After `timeline`, an address may have the time that is shown. Does not use the DOM.
export type Route = {
  mission?: string | undefined
  citizen?: string | undefined
  view?: string | undefined
  /** RFC 3339, only for the timeline */
  at?: string | undefined
}

export const parse = (path: string): Route => {
  const [, deck, missions, ...rest] = path.split('/')
  if (deck !== 'deck' || missions !== 'missions') return {}
  const [mission, citizen, view, at] = rest.map((part) => {
    try {
      return decodeURIComponent(part) || undefined
    } catch {
      return undefined
    }
  })
  return { mission, citizen, view, at: view === 'timeline' && at && Number.isFinite(Date.parse(at)) ? at : undefined }
}

export const format = ({ mission, citizen, view, at }: Route): string => {
  const parts = [mission, citizen, view, view === 'timeline' ? at : undefined]
  const end = parts.findIndex((part) => part === undefined)
  const given = parts.slice(0, end < 0 ? parts.length : end) as string[]
  return ['/deck/missions', ...given.map((part) => encodeURIComponent(part).replaceAll('%3A', ':'))].join('/')
}
