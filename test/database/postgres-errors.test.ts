// The meaning of errors of Postgres and of the connection to it, with a test value for each line of the table. A sender receives
// `unavailable` for each of them, never `internal`, whatever raised the error.
import pg from 'pg'
import t from 'tap'
import {
  isAmbiguous,
  isRetryable,
  isSpent,
  meaningOf,
  meanings,
  reasonOf,
  toRefusal,
  Unconfirmed,
  WrongServer,
} from '../../src/database/postgres/errors.ts'
import { admin, alice, makeMission, startDeck } from '../support/server.ts'

const known = {
  '40001': 'retry',
  '40P01': 'retry',
  '40003': 'lost',
  '08000': 'lost',
  '08003': 'lost',
  '08006': 'lost',
  '08P01': 'lost',
  '57P01': 'lost',
  '57P02': 'lost',
  '57P03': 'lost',
  '57P05': 'lost',
  '25P03': 'lost',
  '25P04': 'lost',
  '57014': 'wait',
  '55P03': 'wait',
  '55006': 'wait',
  '53100': 'wait',
  '53200': 'wait',
  '53400': 'wait',
  '58000': 'wait',
  '58030': 'wait',
  '58P01': 'wait',
  '53300': 'reconnect',
  '25006': 'reconnect',
  '25P02': 'reconnect',
  '55000': 'reconnect',
  '26000': 'reconnect',
  '42P05': 'reconnect',
  '0A000': 'reconnect',
  '28000': 'reconnect',
  '28P01': 'reconnect',
  '3D000': 'reconnect',
  '57P04': 'reconnect',
  '3F000': 'reconnect',
  '42P01': 'reconnect',
  '42703': 'reconnect',
  '42883': 'reconnect',
  '42704': 'reconnect',
  '42501': 'reconnect',
  DK002: 'lost',
} as const

const network = [
  ...[
    'ECONNREFUSED',
    'ECONNRESET',
    'EPIPE',
    'ETIMEDOUT',
    'EHOSTUNREACH',
    'ENETUNREACH',
    'ENETDOWN',
    'ENOENT',
    'EACCES',
  ],
  ...['EAI_AGAIN', 'EAI_FAIL', 'ENOTFOUND', 'ENODATA', 'EADDRNOTAVAIL', 'EMFILE', 'EPROTO'],
  ...[
    'ERR_SSL_WRONG_VERSION_NUMBER',
    'ERR_SSL_TLSV1_ALERT_UNKNOWN_CA',
    'ERR_TLS_CERT_ALTNAME_INVALID',
    'ERR_SOCKET_CLOSED',
  ],
  ...[
    'CERT_HAS_EXPIRED',
    'CERT_NOT_YET_VALID',
    'CERT_SIGNATURE_FAILURE',
    'CRL_HAS_EXPIRED',
    'HOSTNAME_MISMATCH',
    'INVALID_CA',
  ],
  ...[
    'SELF_SIGNED_CERT_IN_CHAIN',
    'DEPTH_ZERO_SELF_SIGNED_CERT',
    'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  ],
]
const driver = [
  'Connection terminated unexpectedly',
  'Connection terminated due to connection timeout',
  'timeout expired',
  'timeout exceeded when trying to connect',
  'Query read timeout',
  'Client was closed and is not queryable',
  'Client has encountered a connection error and is not queryable',
  'The server does not support SSL connections',
  'There was an error establishing an SSL connection',
  'SASL: SCRAM-SERVER-FINAL-MESSAGE: server signature does not match',
  'Cannot use a pool after calling end on the pool',
]

const ofPostgres = (code: string): pg.DatabaseError => Object.assign(new pg.DatabaseError('x', 1, 'error'), { code })
const ofNode = (code: string): Error => Object.assign(new Error('x'), { code })

void t.test('Postgres errors: each line of the table has its meaning', (t) => {
  for (const [code, meaning] of Object.entries(known)) t.equal(meaningOf(ofPostgres(code)), meaning, code)
  const named = Object.keys(known)
  for (const line of Object.keys(meanings))
    t.ok(line === 'unconfirmed' || named.some((code) => code.startsWith(line)), `${line} is listed in this test`)
  for (const code of ['22001', '23505', '23514', 'DK001', '42601', 'XX000'])
    t.equal(meaningOf(ofPostgres(code)), undefined, `${code} is not the database's state`)
  t.end()
})

void t.test('connection errors: system calls, DNS, TLS and the driver', (t) => {
  for (const code of network) t.equal(meaningOf(ofNode(code)), 'lost', code)
  for (const message of driver) t.equal(meaningOf(new Error(message)), 'lost', message)
  t.equal(meaningOf(new TypeError('x is not a function')), undefined, 'a bug in the server')
  t.equal(meaningOf(ofNode('ERR_INVALID_ARG_TYPE')), undefined, 'a bug in the server, with a code')
  t.equal(meaningOf(new WrongServer('x')), 'lost')
  t.equal(meaningOf(new Unconfirmed()), 'lost')
  t.end()
})

void t.test('Postgres errors: the meaning decides between retry, reconnect and an ambiguous outcome', (t) => {
  const errors = [...Object.keys(known).map(ofPostgres), ...network.map(ofNode), new Unconfirmed()]
  for (const error of errors) {
    const meaning = meaningOf(error)
    t.equal(toRefusal(error)?.code, 'unavailable', reasonOf(error))
    t.equal(isRetryable(error), meaning === 'retry')
    t.equal(isAmbiguous(error), meaning === 'lost')
    t.equal(isSpent(error), meaning === 'lost' || meaning === 'reconnect')
  }
  t.end()
})

void t.test(
  'Postgres errors: a write that meets one is unavailable over HTTP and sockets, and delays no other write',
  async (t) => {
    const { database, instance } = await startDeck(t)
    const { id } = await makeMission(instance)
    const codes = [...Object.keys(known).filter((code) => code !== 'DK002'), '58P02']
    // The trigger raises the error whose code is the message or the title.
    await database.query(`
    create function refuse() returns trigger language plpgsql as $$
    declare code text := coalesce(to_jsonb(new) ->> 'message', to_jsonb(new) ->> 'title');
    begin
      if code ~ '^[0-9A-Z]{5}$' then raise exception 'raised on purpose' using errcode = code; end if;
      return new;
    end $$;
    create trigger refuse_message before insert on chat_messages for each row execute function refuse();
    create trigger refuse_title before update on missions for each row execute function refuse();`)
    const client = await instance.connect(alice)
    const healthy = await makeMission(instance)
    const answers = await Promise.all(
      codes.map(async (code, n) => ({
        code,
        keyed: await client.ask({ type: 'send', topic: `missions/${id}/chat/c${n}`, message: code, key: code }),
        post: await instance.request('POST', `/api/missions/${id}/chat/d${n}`, alice, { message: code }),
        patch: await instance.request('PATCH', `/api/missions/${id}`, admin, { title: code }),
      })),
    )
    for (const { code, keyed, post, patch } of answers) {
      const wanted = 'unavailable'
      t.match([keyed['code'], post.json['code'], patch.json['code']], [wanted, wanted, wanted], code)
    }
    t.match(
      await client.ask({ type: 'send', topic: `missions/${healthy.id}/chat/rafael`, message: 'well' }),
      { type: 'ok' },
      'other writes succeed',
    )
  },
)
