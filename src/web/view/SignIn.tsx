// The sign-in page. It shows why the user is signed out, and how to get a token.
import { useSignal } from '@preact/signals'
import type { Session } from '../state/session.ts'

export const SignIn = ({ session }: { session: Session }) => {
  const token = useSignal('')
  return (
    <main class="signin">
      <h1>Mission Deck</h1>
      <p>Missions, their chats, checklists and test runs, live.</p>
      {session.reason.value && (
        <p class="failure" role="alert">
          {session.reason.value}
        </p>
      )}
      {session.login.value && (
        <p>
          <button
            type="button"
            class="primary"
            onClick={() =>
              location.assign(`/auth/login?return=${encodeURIComponent(location.pathname + location.search)}`)
            }
          >
            Sign in with your organization
          </button>
        </p>
      )}
      <form
        onSubmit={(event) => {
          event.preventDefault()
          session.signIn(token.value)
        }}
      >
        <label for="token">Token</label>
        <input
          id="token"
          type="password"
          autocomplete="off"
          spellcheck={false}
          required
          value={token.value}
          onInput={(event) => (token.value = event.currentTarget.value)}
          placeholder="eyJ…"
        />
        <button type="submit" class={session.login.value ? '' : 'primary'}>
          {session.login.value ? 'Sign in with the token' : 'Sign in'}
        </button>
      </form>
      <p class="muted">
        Open your invite link, or the link that the server printed when it started, or paste a token:{' '}
        <code>npx mission-deck token NAME user</code> makes one. It stays in this tab.
      </p>
      <p class="muted">
        For programs: <a href="/docs">the HTTP API</a>, <a href="/openapi.json">OpenAPI</a>,{' '}
        <a href="/asyncapi.json">AsyncAPI</a> of the socket.
      </p>
    </main>
  )
}
