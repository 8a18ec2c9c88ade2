// The code of a chat: the mission's repository, and the chat's code blocks, newest first, each with a link to its message.
import { useSignal } from '@preact/signals'
import { useEffect, useMemo } from 'preact/hooks'
import type { Mission } from '../../../client/index.ts'
import { makeCode } from '../../state/code.ts'
import type { Place } from '../../state/place.ts'
import { dayAndTime } from '../../format.ts'
import { CodeInTurn, mostBlocks } from './Code.tsx'
import { Icon } from '../Icon.tsx'
import { Reading } from './Reading.tsx'
import { authorOf } from './Row.tsx'

export const CodeList = ({ place, mission, citizen }: { place: Place; mission: Mission; citizen: string }) => {
  const language = useSignal('')
  const code = useMemo(
    () => makeCode(place.deck, mission.id, citizen, language.value),
    [place, mission.id, citizen, language.value],
  )
  useEffect(() => code.close, [code])
  const messages = code.messages.value
  const known = useSignal<string[]>([])
  const found = messages.flatMap(({ code_blocks }) =>
    (code_blocks ?? []).map((block) => block.language?.toLowerCase() ?? ''),
  )
  const fresh = [...new Set(found)].filter((name) => name && !known.peek().includes(name))
  useEffect(() => {
    if (fresh.length > 0) known.value = [...known.peek(), ...fresh].sort()
  })
  return (
    <div class="codes">
      {mission.github_url && /^https?:/.test(mission.github_url) && (
        <a class="repo" href={mission.github_url} target="_blank" rel="noopener noreferrer">
          <Icon name="repo" /> {mission.github_url.replace(/^https?:\/\//, '')}
        </a>
      )}
      {known.value.length > 0 && (
        <select
          aria-label="Language"
          value={language.value}
          onChange={(event) => (language.value = event.currentTarget.value)}
        >
          <option value="">All languages</option>
          {known.value.map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
      )}
      {messages.map((message) => (
        <section key={message.seq}>
          <h2>
            {authorOf(message)} <span class="muted">{dayAndTime(message.created_at)}</span>
            <button
              type="button"
              class="small"
              onClick={() => (place.target.value = { mission: mission.id, citizen, seq: message.seq })}
            >
              Show in chat
            </button>
          </h2>
          {(message.code_blocks ?? [])
            .filter((block) => !language.value || block.language?.toLowerCase() === language.value)
            .slice(0, mostBlocks)
            .map((block, n) => (
              <CodeInTurn key={n} code={block.code} language={block.language} />
            ))}
        </section>
      ))}
      {code.failure.value && <p class="failure">{code.failure.value}</p>}
      {code.busy.value && <Reading what="the code" />}
      {!code.busy.value && !code.failure.value && messages.length === 0 && (
        <p class="muted empty">No code in this chat yet.</p>
      )}
      {code.more.value && !code.busy.value && (
        <button type="button" onClick={() => void code.load()}>
          Older code
        </button>
      )}
    </div>
  )
}
