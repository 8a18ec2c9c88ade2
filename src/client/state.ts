// The connection as a machine of four states.
//
// A deck begins *connecting*: it asks for the token, opens a socket and waits for the server's welcome, with which it is
// *open*: what waited is sent, what was followed is followed on. Whatever ends the socket, or keeps it from being opened, is
// `lost`: the deck is *waiting*, until the wait is `due` and it is connecting again. `end` comes from the caller that closes the deck, or
// from a token that is refused for good; *closed* is left no more. What can't happen in a state changes nothing.

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
