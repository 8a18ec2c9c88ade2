// The panels beside a chat, each under a tab. A new panel is an entry here. Panels that are not needed at first are loaded when shown.
import type { ComponentType } from 'preact'
import type { Mission } from '../../../client/index.ts'
import type { Place } from '../../state/place.ts'
import { Checklist } from './Checklist.tsx'
import { later } from '../later.tsx'
import { Tests } from './Tests.tsx'

type Props = { place: Place; mission: Mission; citizen: string; wide: boolean }
export type Panel = { id: string; title: string; View: ComponentType<Props> }

export const panels: Panel[] = [
  {
    id: 'checklist',
    title: 'Checklist',
    View: ({ place, mission }) => <Checklist place={place} mission={mission.id} />,
  },
  {
    id: 'tests',
    title: 'Tests',
    View: ({ place, mission, wide }) => <Tests place={place} mission={mission.id} wide={wide} />,
  },
  {
    id: 'code',
    title: 'Code',
    View: later<Props>(() => import('../chat/CodeList.tsx').then((part) => part.CodeList)),
  },
  {
    id: 'timeline',
    title: 'Timeline',
    View: later<Props>(() => import('./Timeline.tsx').then((part) => part.Timeline)),
  },
  { id: 'search', title: 'Search', View: later<Props>(() => import('../search/Find.tsx').then((part) => part.Find)) },
]

/** The default panel beside a citizen's chat on a wide page. */
const first: Record<string, string> = { sofia: 'checklist' }

export const panelOf = (view: string | undefined, citizen: string, wide: boolean): Panel | undefined => {
  const id = view ?? (wide ? first[citizen] : undefined)
  return panels.find((panel) => panel.id === id)
}
