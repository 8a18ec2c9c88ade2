// Metrics: the counts are right, no label identifies a subject, and more traffic makes no more series.
import t from 'tap'
import { alice, bob, closed, makeMission, startDeck, until } from '../support/server.ts'

const { instance } = await startDeck(t, { limits: { badFrames: 3 } })

/** Samples by name and labels. */
const read = async (): Promise<{ text: string; of: (sample: string) => number }> => {
  const { status, headers, text } = await instance.request('GET', '/metrics')
  t.equal(status, 200)
  t.match(headers.get('content-type'), /^text\/plain; version=0\.0\.4/)
  const samples = new Map(
    text
      .split('\n')
      .filter((line) => line && !line.startsWith('#'))
      .map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]),
  )
  return { text, of: (sample) => samples.get(sample) ?? 0 }
}

void t.test('metrics: count messages, frames, errors and closes', async (t) => {
  const { id } = await makeMission(instance)
  const topic = `missions/${id}/chat/rafael`
  const client = await instance.connect(alice)
  await client.ask({ type: 'subscribe', topic })
  for (let n = 1; n <= 5; n++) await client.ask({ type: 'send', topic, message: `number ${n}` })
  await until(() => client.events(topic).length === 5, 'the events')
  const stranger = await instance.connect(bob)
  await stranger.ask({ type: 'subscribe', topic })
  for (let n = 0; n < 3; n++) stranger.socket.send('no JSON')
  t.equal(await closed(stranger), 4400)
  await instance.request('GET', '/api/missions/no-mission', alice)

  const { of } = await read()
  t.equal(of('deck_build_info{version="0.1.0"}'), 1)
  for (const check of ['serving', 'database', 'schema', 'listener', 'capacity'])
    t.equal(of(`deck_ready{check="${check}"}`), 1, check)
  t.equal(of('deck_limit{of="queue_messages"}'), 20_000)
  t.equal(of('deck_http_requests_total{status="201"}'), 1)
  t.equal(of('deck_http_requests_total{status="400"}'), 1)
  t.equal(of('deck_http_request_seconds_count{method="GET"}'), 1)
  t.equal(of('deck_database_errors_total'), 0)
  t.equal(of('deck_sockets'), 1)
  t.equal(of('deck_seats'), 1)
  t.equal(of('deck_topics'), 1)
  t.equal(of('deck_messages_total'), 5)
  t.equal(of('deck_send_to_commit_seconds_count'), 5)
  // A chat without a latest seq goes to the waiting lane, so its first message is counted in two batches.
  t.ok(of('deck_batch_size_count') >= 5)
  t.ok(of('deck_commit_to_write_seconds_count') >= 5)
  // alice: subscribe and 5 sends; bob: subscribe and 3 texts that are no JSON.
  t.equal(of('deck_frames_in_total'), 10)
  // alice: welcome, 6 answers, 5 events; bob: welcome, 4 errors, goodbye.
  t.equal(of('deck_frames_out_total'), 12 + 6)
  t.ok(of('deck_bytes_out_total') > of('deck_bytes_in_total'))
  t.equal(of('deck_socket_errors_total{code="not_found"}'), 1)
  t.equal(of('deck_socket_errors_total{code="bad_request"}'), 3)
  t.equal(of('deck_socket_closes_total{code="4400"}'), 1)
  t.equal(of('deck_http_errors_total{code="bad_request"}'), 1)
  t.equal(of('deck_listen_sessions_total'), 1)
  t.ok(of('deck_listen_age_seconds') > 0)
  t.ok(of('deck_pool_connections{pool="writer"}') >= 1)
  for (const nothing of ['queue_messages', 'queue_bytes', 'outbox_bytes', 'seats_catching', 'waiting_lane_topics'])
    t.equal(of(`deck_${nothing}`), 0, nothing)
  client.close()
  await until(async () => (await read()).of('deck_seats') === 0, 'the subscription to end')

  const odd = await instance.connect(alice)
  odd.socket.close(4321)
  await until(async () => (await read()).of('deck_socket_closes_total{code="other"}') === 1, 'a foreign close code')
  t.notMatch((await read()).text, /"4321"/, 'a foreign close code makes no series')
})

void t.test('metrics: identify no subject, and more traffic makes no more series', async (t) => {
  // Node's garbage collector has a few kinds, each of which gets its series at its first run.
  const lines = async (): Promise<number> =>
    (await read()).text.split('\n').filter((line) => !line.startsWith('nodejs_gc_')).length
  const use = async (): Promise<void> => {
    const { id } = await makeMission(instance)
    await instance.request('POST', `/api/missions/${id}/chat/rafael`, alice, { message: 'hi' })
    await instance.request('GET', `/api/missions/${id}`, bob)
  }
  await use()
  const before = await lines()
  for (let n = 0; n < 5; n++) await use()
  t.equal(await lines(), before)
  t.notMatch((await read()).text, /alice|bob|rafael|missions\/|[0-9a-f]{8}-/)
})
