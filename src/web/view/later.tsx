// A part of the page that is loaded when it is first shown; one that could not be had while the page was offline is asked for again.
// A server that was updated meanwhile no longer has the part: the page says so.
import { useSignal } from '@preact/signals'
import type { ComponentType } from 'preact'
import { useEffect } from 'preact/hooks'
import { away } from '../state/online.ts'
import { Reading } from './chat/Reading.tsx'

export const later = <P extends object>(load: () => Promise<ComponentType<P>>, waiting = 'panel-waits') => {
  let loaded: ComponentType<P> | undefined
  return (props: P) => {
    const failed = useSignal(false)
    const there = useSignal(loaded !== undefined)
    const offline = away.value
    useEffect(() => {
      if (loaded || offline) return
      let left = false
      failed.value = false
      load().then(
        (View) => {
          loaded = View
          there.value = true
        },
        () => !left && (failed.value = true),
      )
      return () => void (left = true)
    }, [offline])
    const View = loaded
    if (there.value && View) return <View {...props} />
    if (offline || !failed.value) return <Reading what="this part" quiet kind={waiting} />
    return (
      <p class={`muted ${waiting}`} role="status">
        This part could not be loaded. Reload the page: the server may be a newer one.
      </p>
    )
  }
}
