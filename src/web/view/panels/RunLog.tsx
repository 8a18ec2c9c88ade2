// The log of a test run, live.
import { useSignal } from '@preact/signals'
import { useEffect, useLayoutEffect, useMemo, useRef } from 'preact/hooks'
import { makePieces } from '../../pieces.ts'
import type { Runs } from '../../state/runs.ts'
import { useFramed } from '../chat/turns.ts'

export const RunLog = ({ runs, id }: { runs: Runs; id: string }) => {
  const log = useMemo(() => runs.log(id), [runs, id])
  const box = useRef<HTMLPreElement>(null)
  const following = useSignal(true)
  useEffect(() => log.close, [log])
  const pieces = useMemo(makePieces, [log])
  const text = useFramed(log.text.value)
  useLayoutEffect(() => {
    if (box.current && following.value) box.current.scrollTop = box.current.scrollHeight
  }, [text, following.value])
  return (
    <section>
      <h2>
        Log
        <label class="switch">
          <input
            type="checkbox"
            checked={following.value}
            onChange={(event) => (following.value = event.currentTarget.checked)}
          />
          follow
        </label>
      </h2>
      {log.cut.value && <p class="muted">Only the end is shown. The whole log: /api/missions/…/tests/…/logs</p>}
      <pre
        class="log"
        ref={box}
        tabIndex={0}
        role="log"
        aria-live="off"
        aria-label="Log of the run"
        onScroll={({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
          following.value = scrollHeight - scrollTop - clientHeight < 24
        }}
      >
        {text === ''
          ? log.empty.value
            ? 'The log is empty.'
            : 'Loading the log …'
          : pieces(text).map((piece) => <span key={piece.id}>{piece.text}</span>)}
      </pre>
    </section>
  )
}
