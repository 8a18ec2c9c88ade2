// The mission's definition of done: its items by category, with progress and evidence. Ticks from elsewhere appear live.
import { useEffect, useRef } from 'preact/hooks'
import type { DodItem } from '../../../client/index.ts'
import { categories, type Checklist as State } from '../../state/checklist.ts'
import type { Place } from '../../state/place.ts'
import { capital, fullTime, percent, shortDay } from '../../format.ts'
import { Evidence, Refused } from './Evidence.tsx'
import { Reading } from '../chat/Reading.tsx'
import { Sure } from '../Sure.tsx'

const Progress = ({ completed, total }: { completed: number; total: number }) => (
  <div class="progress">
    <progress max={total || 1} value={completed} aria-label="Done" />
    <span>
      {completed}/{total} <span class="muted">{percent(completed, total)}</span>
    </span>
  </div>
)

const Item = ({ item, list, place }: { item: DodItem; list: State; place: Place }) => {
  const row = useRef<HTMLLIElement>(null)
  const found = place.item.value === item.id
  useEffect(() => void (found && row.current?.scrollIntoView({ block: 'center' })), [found])
  const { role } = place.who
  return (
    <li ref={row} class={found ? 'found' : ''}>
      <label class={item.completed ? 'done' : ''}>
        <input
          type="checkbox"
          checked={item.completed}
          disabled={role === 'citizen'}
          onChange={(event) => void list.set(item, event.currentTarget.checked)}
        />
        <span>
          {item.text}
          {item.completed_at && (
            <time dateTime={item.completed_at} title={fullTime(item.completed_at)}>
              {shortDay(item.completed_at)}
            </time>
          )}
        </span>
      </label>
      <Evidence item={item} place={place} />
      {list.refused.value === item.id && (
        <Refused
          items={[item]}
          admin={role === 'admin'}
          onReason={(reason) => void list.set(item, true, reason)}
          onLeave={() => (list.refused.value = '')}
        />
      )}
    </li>
  )
}

export const Checklist = ({ place, mission }: { place: Place; mission: string }) => {
  const list = place.checklist(mission)
  const items = list.items.value
  const mayTick = place.who.role !== 'citizen'
  const named = [...categories, ...new Set(items?.map(({ category }) => category))]
  // An item that a search found is highlighted once.
  useEffect(() => () => void (place.item.value = ''), [place])
  if (!items)
    return list.failure.value ? (
      <p class="failure" role="alert">
        {list.failure.value}
      </p>
    ) : (
      <Reading what="the checklist" />
    )
  if (items.length === 0)
    return <p class="muted empty">This mission has no checklist yet. Citizens and admins add its items.</p>
  return (
    <div class="checklist">
      <Progress {...list.progress.value} />
      {list.failure.value && (
        <p class="failure" role="alert">
          {list.failure.value}
        </p>
      )}
      {[...new Set(named)].map((category) => {
        const some = items.filter((item) => item.category === category)
        if (some.length === 0) return null
        const done = some.filter(({ completed }) => completed).length
        return (
          <section key={category}>
            <h2>
              {capital(category)} <span class="muted">{`${done}/${some.length}`}</span>
            </h2>
            <ul>
              {some.map((item) => (
                <Item key={item.id} item={item} list={list} place={place} />
              ))}
            </ul>
          </section>
        )
      })}
      {list.refused.value === 'all' && (
        <Refused
          items={items.filter(({ completed, evidence }) => !completed && evidence && evidence.status !== 'passed')}
          admin={place.who.role === 'admin'}
          onReason={(reason) => void list.complete(reason)}
          onLeave={() => (list.refused.value = '')}
        />
      )}
      {mayTick && (
        <div class="actions">
          <Sure
            label="Mark all done"
            question="Mark all, and set the mission to QA?"
            onYes={() => void list.complete()}
          />
          <Sure label="Reset" question="Clear all ticks?" onYes={() => void list.reset()} />
        </div>
      )}
    </div>
  )
}
