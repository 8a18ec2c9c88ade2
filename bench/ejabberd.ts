// XMPP over WebSocket (RFC 7395) to ejabberd: one stanza per frame. A topic is a room, which the first occupant creates.
// Once a message is archived, the room also sends it back to the sender: that is the acknowledgement. Resource and nick are the
// same, so the `to` and `from` of a socket's own message have the same end.
import { readdirSync, readFileSync } from 'node:fs'
import type { Adapter } from './adapters.ts'

/** Where Debian's ejabberd has its Erlang libraries; undefined if it or its Postgres driver isn't installed. */
export const ejabberdLibraries = (): string | undefined => {
  try {
    if (!readdirSync('/usr/lib/erlang/lib').some((name) => name.startsWith('p1_pgsql-'))) return undefined
    return /^ERL_LIBS='(.+)'$/m.exec(readFileSync('/usr/sbin/ejabberdctl', 'utf8'))?.[1]
  } catch {
    return undefined
  }
}

const code = (letter: string): number => letter.charCodeAt(0)
const slash = code('/')
const quote = code("'")
const fromLength = "' from='".length
const typeLength = "' type='".length

const open = "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='localhost' version='1.0'/>"
const auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='ANONYMOUS'/>"
const bind = (nick: string): string =>
  `<iq xmlns='jabber:client' type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>${nick}</resource></bind></iq>`
const enter = (topic: string, nick: string): string =>
  `<presence xmlns='jabber:client' to='${topic}@conference.localhost/${nick}'><x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x></presence>`

export const ejabberd = (): Adapter => ({
  door: (url) => ({ url: `${url}/ws`, headers: { 'sec-websocket-protocol': 'xmpp' } }),
  join(frame, name, topic) {
    const nick = `n${name}`
    if (frame === '' || frame.startsWith('<success')) return { send: [open] }
    if (frame.includes('<mechanisms')) return { send: [auth] }
    if (frame.startsWith('<stream:features')) return { send: [bind(nick)] }
    if (frame.startsWith('<iq') && frame.includes("type='result'") && topic !== undefined)
      return { send: [enter(topic, nick)] }
    return { joined: topic === undefined ? frame.startsWith('<iq') : frame.includes("<status code='110'/>") }
  },
  publish: (topic, id, text) =>
    `<message xmlns='jabber:client' type='groupchat' id='${id}' to='${topic}@conference.localhost'><body>${text}</body></message>`,
  // <message xmlns='jabber:client' xml:lang='en' to='user@localhost/n1' from='topic@conference.localhost/n1' type='groupchat' …
  kind(chunk, start, end) {
    if (chunk[start + 1] !== code('m')) return 'none'
    const own = chunk.indexOf(slash, start) + 1
    let at = own
    while (at < end && chunk[at] !== quote) at++
    const length = at - own
    at += fromLength
    while (at < end && chunk[at] !== quote && chunk[at] !== slash) at++
    // The room itself sends its subject or an error.
    const fromRoom = chunk[at] === quote
    const nick = at + 1
    while (at < end && chunk[at] !== quote) at++
    if (at >= end) return 'none'
    if (chunk[at + typeLength] === code('e')) return 'error'
    if (fromRoom) return 'none'
    if (at - nick !== length) return 'delivery'
    // The last digits differ most, so they are compared first.
    for (let i = length - 1; i >= 0; i--) if (chunk[own + i] !== chunk[nick + i]) return 'delivery'
    return 'echo'
  },
})
