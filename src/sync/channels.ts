// Chooses the channels on which this instance listens: those of the topics that it follows. A mission's topics share one of 64 channels.
// So with each followed mission an instance also receives the notifications of a 64th of all other missions. In return, Postgres compares
// a notification with at most 64 channels per session.

const shards = 64

/** Returns the channel of a topic's notifications. deck.hint_channel() in db/functions/topic.sql must return the same. */
export const channelOf = (topic: string): string => `deck_${Number.parseInt(topic.slice(43, 45), 16) % shards}`

export const makeChannels = ({
  listen,
  unlisten,
}: {
  /** Resolves once LISTEN is in effect. */
  listen: (channel: string) => Promise<void>
  unlisten: (channel: string) => void
}) => {
  const followed = new Map<string, { topics: number; listening: Promise<void> }>()
  const join = (channel: string): Promise<void> => {
    let state = followed.get(channel)
    if (!state) followed.set(channel, (state = { topics: 0, listening: listen(channel) }))
    state.topics++
    return state.listening
  }
  const leave = (channel: string): void => {
    const state = followed.get(channel)
    if (!state || --state.topics > 0) return
    followed.delete(channel)
    unlisten(channel)
  }
  const all = Array.from({ length: shards }, (_, n) => `deck_${n}`)
  return {
    /** Adds a topic. Resolves once its notifications arrive. */
    follow: (topic: string): Promise<void> => join(channelOf(topic)),
    unfollow: (topic: string): void => leave(channelOf(topic)),
    /** Listens on all channels. Resolves once the notifications of all topics arrive. */
    async followAll(): Promise<void> {
      await Promise.all(all.map(join))
    },
    unfollowAll: (): void => all.forEach(leave),
  }
}
