// The Deck page: missions and their chats in a browser. It uses the server only through the client (src/client). It stores only
// the place in the page, unsent messages and, for this tab, the token.
import { useComputed } from '@preact/signals'
import { render } from 'preact'
import './style/index.css'
import { startRoute } from './state/route.ts'
import { makePlace } from './state/place.ts'
import { makeSession } from './state/session.ts'
import { App } from './view/App.tsx'
import { Asked } from './view/chat/Asked.tsx'
import { SignIn } from './view/SignIn.tsx'
import { showDirections } from './view/visible.ts'

showDirections()
const session = makeSession()
session.start()
startRoute()

const Deck = () => {
  const place = useComputed(() => {
    const deck = session.deck.value
    const who = session.who.peek()
    return deck && who ? makePlace(deck, who) : undefined
  })
  if (!place.value) return <SignIn session={session} />
  const link = session.asked.value
  return (
    <>
      <App key={place.value} session={session} place={place.value} />
      {link && <Asked session={session} link={link} mine={place.value.who} />}
    </>
  )
}

// The browser must not open a dropped file instead of the page.
for (const name of ['dragover', 'drop'] as const)
  addEventListener(name, (event) => event.dataTransfer?.types.includes('Files') && event.preventDefault())

const root = document.getElementById('deck')
if (root) render(<Deck />, root)
