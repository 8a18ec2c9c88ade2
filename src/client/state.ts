// The connection's state machine, with four states.
//
// A deck starts as *connecting*: it requests the token, opens a socket and waits for the server's welcome. The welcome makes it *open*:
// queued messages are sent, and topics are subscribed again. If the socket closes or can't be opened (`lost`), the deck is *waiting*.
// When the wait is over (`due`), it connects again. `end` closes the deck: by the caller, or because the token was refused
// permanently. *closed* is final. An event that can't happen in a state is ignored.

export type State = 'connecting' | 'open' | 'waiting' | 'closed'
export type Happening = 'welcome' | 'lost' | 'due' | 'end'

export const table: Record<State, Record<Happening, State>> = {
  connecting: { welcome: 'open', lost: 'waiting', due: 'connecting', end: 'closed' },
  open: { welcome: 'open', lost: 'waiting', due: 'open', end: 'closed' },
  waiting: { welcome: 'waiting', lost: 'waiting', due: 'connecting', end: 'closed' },
  closed: { welcome: 'closed', lost: 'closed', due: 'closed', end: 'closed' },
}

/** The token was refused: the client requests a new one, once. */
export const tokenRefused = 4401
