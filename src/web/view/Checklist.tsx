// The mission's definition of done: by category, with how far it is; ticked here, and live from wherever it is ticked.
import { categories } from '../state/checklist.ts'
import type { Place } from '../state/place.ts'
import { capital, fullTime, percent, shortDay } from '../words.ts'
import { Sure } from './Sure.tsx'

const Progress = ({ completed, total }: { completed: number; total: number }) => (
  <div class="progress">
    <progress max={total || 1} value={completed} aria-label="Done" />
    <span>
      {completed}/{total} <span class="muted">{percent(completed, total)}</span>
    </span>
  </div>
)

export const Checklist = ({ place, mission }: { place: Place; mission: string }) => {
  const list = place.checklist(mission)
  const items = list.items.value
  const mayTick = place.who.role !== 'citizen'
  const named = [...categories, ...new Set(items?.map(({ category }) => category))]
  if (!items) return <p class="muted">{list.failure.value || 'Reading the checklist …'}</p>
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
                <li key={item.id}>
                  <label class={item.completed ? 'done' : ''}>
                    <input
                      type="checkbox"
                      checked={item.completed}
                      disabled={!mayTick}
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
                </li>
              ))}
            </ul>
          </section>
        )
      })}
      {mayTick && (
        <div class="actions">
          <Sure
            label="Mark all done"
            question="Mark all, and set the mission to QA?"
            onYes={() => void list.complete()}
          />
          <Sure label="Reset" question="Take back every tick?" onYes={() => void list.reset()} />
        </div>
      )}
    </div>
  )
}
