// A worker without a socket, as the module of a process: it claims rafael's questions at URL with TOKEN, writes a draft and replies. A claim
// whose answer was lost is repeated with its key.
export const httpWorker = `
  const { URL: url, TOKEN: token } = process.env
  const say = (line) => console.log(JSON.stringify(line))
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
  const post = async (path, body, headers = {}) => {
    const response = await fetch(url + '/api/inbox/rafael/' + path, {
      method: 'POST',
      headers: { authorization: 'Bearer ' + token, 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(30_000),
    })
    const answer = response.status === 204 ? {} : await response.json()
    if (!response.ok) throw Object.assign(new Error(answer.code), { code: answer.code })
    return answer
  }
  const insist = async (...call) => {
    for (;;)
      try {
        return await post(...call)
      } catch (error) {
        say({ error: error.code ?? error.name })
        if (['conflict', 'not_found', 'bad_request'].includes(error.code)) return undefined
        await pause(50)
      }
  }
  const work = async ({ task, claim, attempt, message }) => {
    say({ task, attempt })
    let offset = 0
    for (const delta of ['re: ', message.message, ' ', '🎛️']) {
      // If an answer was lost, the delta may have been written: the draft then has the right length.
      const drafted = await insist('tasks/' + task + '/draft', { claim, delta, offset })
      offset += delta.length
      if (!drafted && (await insist('tasks/' + task + '/draft', { claim }))?.offset !== offset) return
      await pause(10 + Math.random() * 40)
    }
    await insist('tasks/' + task + '/reply', { claim })
  }
  for (;;) {
    const key = crypto.randomUUID()
    const found = await insist('claim', { wait: 20, credit: 4, lease: 10 }, { 'idempotency-key': key })
    await Promise.all(found.tasks.map(work))
  }`
