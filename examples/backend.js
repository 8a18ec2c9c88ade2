// A back end that signs deck tokens for its own users, without packages. The deck trusts it: both have the same JWT_SECRET.
// Its users sign in as they always did; here by a password, and with a cookie of its own. A page then gets a token that lives ten minutes:
//   connect({ url, token: () => fetch('/deck-token').then((response) => response.text()) })
//   JWT_SECRET=… PORT=8080 node examples/backend.js
import { createHmac, randomBytes, scryptSync, timingSafeEqual } from 'node:crypto'
import { createServer } from 'node:http'

const { JWT_SECRET: secret = '', PORT: port = '8080' } = process.env
if (secret === '') throw new Error('JWT_SECRET is missing')
// Yours come from your database: the user's name for the deck, a salted hash of the password, and the missions that the user may see.
const salt = randomBytes(16)
const hashed = (password) => scryptSync(password, salt, 64)
const users = new Map([['ann@example.com', { password: hashed('correct horse'), missions: [47] }]])
const sessions = new Map()

/** Signs a JSON Web Token (HS256) with what the deck reads: sub, role, exp and missions. */
const deckToken = (sub) => {
  const encode = (part) => Buffer.from(JSON.stringify(part)).toString('base64url')
  const exp = Math.floor(Date.now() / 1000) + 600
  const claims = { sub, role: 'user', exp, missions: users.get(sub).missions }
  const text = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(claims)}`
  return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`
}

const signIn = async (request) => {
  let body = ''
  for await (const part of request.setEncoding('utf8')) if ((body += part).length > 4096) return { status: 413 }
  let user, password
  try {
    ;({ user, password } = JSON.parse(body))
  } catch {
    return { status: 400 }
  }
  // The same work for a user that does not exist.
  const known = users.get(user)?.password ?? randomBytes(64)
  if (!timingSafeEqual(hashed(String(password)), known)) return { status: 401 }
  const session = randomBytes(32).toString('base64url')
  sessions.set(session, user)
  return { status: 204, headers: { 'set-cookie': `session=${session}; HttpOnly; SameSite=Strict; Path=/` } }
}

const answer = async (request) => {
  if (request.method === 'POST' && request.url === '/sign-in') return signIn(request)
  if (request.method !== 'GET' || request.url !== '/deck-token') return { status: 404 }
  const [, session] = /(?:^|; *)session=([\w-]+)/.exec(request.headers.cookie ?? '') ?? []
  const user = sessions.get(session)
  if (user === undefined) return { status: 401 }
  return { status: 200, headers: { 'content-type': 'text/plain', 'cache-control': 'no-store' }, body: deckToken(user) }
}

const server = createServer((request, response) => {
  answer(request).then(
    ({ status, headers, body }) => response.writeHead(status, headers).end(body),
    () => response.writeHead(500).end(),
  )
})
server.listen(Number(port), '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`))
