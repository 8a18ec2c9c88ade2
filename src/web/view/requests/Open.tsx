// The list of what is open for the reader over all missions. Each entry leads to its card.
import { useSignal } from '@preact/signals'
import { useEffect, useMemo, useRef } from 'preact/hooks'
import type { Request } from '../../../client/index.ts'
import { capital } from '../../format.ts'
import { persist, wordsOf } from '../../state/online.ts'
import type { Place } from '../../state/place.ts'
import { makeRequestRows } from '../../state/request-rows.ts'
import { format, go } from '../../state/route.ts'
import { Reading } from '../chat/Reading.tsx'
import { Icon } from '../Icon.tsx'
import { Expires } from './Card.tsx'
import '../../style/requests.css'

const perPage = 100

export const Open = ({ place, onClose }: { place: Place; onClose: () => void }) => {
  const dialog = useRef<HTMLDialogElement>(null)
  const rows = useMemo(makeRequestRows, [place])
  const next = useSignal<string | null | undefined>(undefined)
  const failure = useSignal('')
  const ending = useMemo(() => new AbortController(), [place])

  // Bodies and options belong to the cards.
  const take = (given: readonly Request[]): void =>
    void rows.take(given.map((row) => ({ ...row, body: null, options: null })))
  const load = async (): Promise<void> => {
    failure.value = ''
    const cursor = next.peek()
    try {
      const page = await persist(place.deck, ending.signal, (signal) =>
        place.deck.openRequests({ limit: perPage, ...(cursor ? { cursor } : {}), signal }),
      )
      take(page.requests)
      next.value = page.next
    } catch (error) {
      if (!ending.signal.aborted) failure.value = wordsOf(error)
    }
  }
  useEffect(() => {
    dialog.current?.showModal()
    const forget = place.missions.onRequest((_mission, request) => {
      if (request) return take([request])
      rows.clear()
      next.value = undefined
      void load()
    })
    void load()
    return () => {
      forget()
      ending.abort()
    }
  }, [])

  const wide = matchMedia('(min-width: 1100px)').matches
  const missions = new Map((place.missions.list.value ?? []).map((mission) => [mission.id, mission]))
  const open = rows.list.value
    .filter(({ state, mission_id }) => state === 'open' && missions.has(mission_id))
    .sort((a, b) => Date.parse(a.expires_at) - Date.parse(b.expires_at))
  return (
    <dialog class="help open-requests" ref={dialog} onClose={onClose} aria-labelledby="open-title">
      <header>
        <h2 id="open-title">Requests for you</h2>
        <button type="button" class="quiet" aria-label="Close" onClick={() => dialog.current?.close()}>
          <Icon name="close" />
        </button>
      </header>
      {failure.value && (
        <p class="failure" role="alert">
          {failure.value}
        </p>
      )}
      {next.value === undefined && !failure.value && <Reading what="the requests" />}
      {next.value !== undefined && open.length === 0 && (
        <p class="muted" role="status">
          Nothing waits for your answer.
        </p>
      )}
      <ul>
        {open.map(({ id, mission_id, citizen, title, expires_at }) => {
          const mission = missions.get(mission_id)
          const to = { mission: String(mission?.number ?? mission_id), citizen, ...(wide ? {} : { view: 'chat' }) }
          return (
            <li key={id}>
              <a
                href={format(to)}
                onClick={(event) => {
                  if (event.metaKey || event.ctrlKey || event.shiftKey) return
                  event.preventDefault()
                  dialog.current?.close()
                  place.card.value = { mission: mission_id, citizen, id }
                  go(to)
                }}
              >
                <b>{title}</b>
                <span class="facts">
                  <span>{capital(citizen)}</span>
                  <span class="title">
                    #{mission?.number} {mission?.title}
                  </span>
                  <Expires at={expires_at} />
                </span>
              </a>
            </li>
          )
        })}
      </ul>
      {next.value && (
        <button type="button" class="small" onClick={() => void load()}>
          More
        </button>
      )}
    </dialog>
  )
}
