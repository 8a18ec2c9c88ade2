// The server's time while a component shows it.
import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { serverNow } from '../server-time.ts'

/** Returns the server's time in ms, renewed every `pace` ms; 0: not renewed. */
export const useNow = (pace: number): number => {
  const ticks = useSignal(0)
  void ticks.value
  useEffect(() => {
    if (pace === 0) return
    const timer = setInterval(() => void ticks.value++, pace)
    return () => clearInterval(timer)
  }, [pace])
  return serverNow()
}
