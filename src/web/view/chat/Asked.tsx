// Asks before a link replaces the signed-in user with a different one. Closing the dialog changes nothing.
import { useEffect, useRef } from 'preact/hooks'
import type { Asked as Link, Session, Who } from '../../state/session.ts'

const Name = ({ who }: { who: Who }) => (
  <>
    <b>
      <bdi>{who.sub}</bdi>
    </b>{' '}
    ({who.role})
  </>
)

export const Asked = ({ session, link, mine }: { session: Session; link: Link; mine: Who }) => {
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => dialog.current?.showModal(), [])
  return (
    <dialog class="help" ref={dialog} onClose={() => (session.asked.value = undefined)} aria-labelledby="asked-title">
      <h2 id="asked-title">Switch to another account?</h2>
      <p>
        You are signed in as <Name who={mine} />. The link that you opened signs you in as <Name who={link.theirs} />.
      </p>
      <p class="muted">
        Switch only if you trust where the link came from: others may read what you write with its account.
      </p>
      <p class="choice">
        <button type="button" class="primary" autofocus onClick={() => dialog.current?.close()}>
          Keep my session
        </button>
        <button type="button" onClick={() => session.signIn(link.token)}>
          Switch
        </button>
      </p>
    </dialog>
  )
}
