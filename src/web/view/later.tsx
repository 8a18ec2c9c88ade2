// A part of the page that is loaded when it is first shown. If loading fails while the page is offline, it is repeated later.
// A server that was updated meanwhile no longer has the part: then the page asks for a reload.
import { useSignal } from '@preact/signals'
import type { ComponentType } from 'preact'
import { useEffect } from 'preact/hooks'
import { away } from '../state/online.ts'
import { Reading } from './chat/Reading.tsx'

export const later = <P extends object>(load: () => Promise<ComponentType<P>>, waiting = 'panel-waits') => {
  let loaded: ComponentType<P> | undefined
  return (props: P) => {
    const failed = useSignal(false)
    const isLoaded = useSignal(loaded !== undefined)
    const offline = away.value
    useEffect(() => {
      // A different place that shows this part may have loaded it since this one was rendered.
      if (loaded) return void (isLoaded.value = true)
      if (offline) return
      let left = false
      failed.value = false
      load().then(
        (View) => {
          loaded = View
          isLoaded.value = true
        },
        () => !left && (failed.value = true),
      )
      return () => void (left = true)
    }, [offline])
    const View = loaded
    if (isLoaded.value && View) return <View {...props} />
    if (offline || !failed.value) return <Reading what="this part" quiet kind={waiting} />
    return (
      <p class={`muted ${waiting}`} role="status">
        This part could not be loaded. Reload the page: the server may have been updated.
      </p>
    )
  }
}
