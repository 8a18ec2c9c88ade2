// Which channels of hints this instance hears: those of the topics that it follows, each as long as one is followed.
// A mission's topics share one of 64: so an instance hears a 64th of the missions that are none of its own for each that is,
// and a session of Postgres compares a notification with at most 64 names.

const shards = 64

/** The channel of a topic's hints; db/functions/topic.sql says the same. */
export const channelOf = (topic: string): string => `deck_${Number.parseInt(topic.slice(43, 45), 16) % shards}`

export const makeChannels = ({
  listen,
  unlisten,
}: {
  /** Resolves once LISTEN holds. */
  listen: (channel: string) => Promise<void>
  unlisten: (channel: string) => void
}) => {
  const heard = new Map<string, { topics: number; holds: Promise<void> }>()
  const hear = (channel: string): Promise<void> => {
    let state = heard.get(channel)
    if (!state) heard.set(channel, (state = { topics: 0, holds: listen(channel) }))
    state.topics++
    return state.holds
  }
  const leave = (channel: string): void => {
    const state = heard.get(channel)
    if (!state || --state.topics > 0) return
    heard.delete(channel)
    unlisten(channel)
  }
  const all = Array.from({ length: shards }, (_, n) => `deck_${n}`)
  return {
    /** One more topic is followed; resolves once its hints are heard. */
    follow: (topic: string): Promise<void> => hear(channelOf(topic)),
    unfollow: (topic: string): void => leave(channelOf(topic)),
    /** The hints of all topics are wanted; resolves once they are heard. */
    async followAll(): Promise<void> {
      await Promise.all(all.map(hear))
    },
    unfollowAll: (): void => all.forEach(leave),
  }
}
