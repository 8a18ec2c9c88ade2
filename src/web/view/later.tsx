// A part of the page that is loaded when it is first shown. A server that was updated meanwhile has no such part any more: that is told.
import { useSignal } from '@preact/signals'
import type { ComponentType } from 'preact'
import { useEffect } from 'preact/hooks'

export const later = <P extends object>(load: () => Promise<ComponentType<P>>, waiting = 'panel-waits') => {
  let loaded: ComponentType<P> | undefined
  return (props: P) => {
    const failed = useSignal(false)
    const there = useSignal(loaded !== undefined)
    useEffect(() => {
      if (loaded) return
      load().then(
        (View) => {
          loaded = View
          there.value = true
        },
        () => (failed.value = true),
      )
    }, [])
    const View = loaded
    if (there.value && View) return <View {...props} />
    return (
      <p class={`muted ${waiting}`} role="status">
        {failed.value ? 'This part could not be loaded. Reload the page: the server may be a newer one.' : '\u00a0'}
      </p>
    )
  }
}
