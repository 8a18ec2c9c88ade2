// Appends to a run's log, one request at a time. Text that arrives meanwhile is sent with the next request, cut between characters.
// If text arrives faster than the server accepts it, the writer waits.

/** UTF-16 code units of a piece: at most 768 KiB of UTF-8, of the 2 MiB that a request may have. */
const piece = 256 * 1024
const waiting = 16 * piece

/** Replaces characters that Postgres can't store, NUL and lone surrogates, by U+FFFD. */
export const clean = (text: string): string => text.replaceAll('\0', '\ufffd').replace(/\p{Surrogate}/gu, '\ufffd')

export const makeLog = (append: (text: string) => Promise<unknown>) => {
  let text = ''
  let sending: Promise<void> | undefined
  let failed: { error: unknown } | undefined

  const send = async (): Promise<void> => {
    while (text !== '') {
      let end = Math.min(piece, text.length)
      // Do not split a surrogate pair.
      if (end < text.length && /[\ud800-\udbff]/.test(text.charAt(end - 1))) end--
      const next = text.slice(0, end)
      text = text.slice(end)
      await append(clean(next))
    }
  }
  const start = (): Promise<void> =>
    (sending ??= send()
      .catch((error: unknown) => {
        text = ''
        failed = { error }
      })
      .finally(() => (sending = undefined)))
  const check = (): void => {
    if (failed) throw failed.error
  }
  return {
    /** Resolves when more text may be written. Rejects if a request has failed. */
    async write(more: string): Promise<void> {
      check()
      text += more
      const sent = start()
      if (text.length > waiting) await sent
      check()
    },
    async end(): Promise<void> {
      while (text !== '' || sending) await start()
      check()
    },
  }
}
