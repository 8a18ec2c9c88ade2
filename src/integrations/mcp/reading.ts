// Tools that read: missions, a chat, a search.
import { filterFields } from '../../protocol/filters.ts'
import { MissionStatus } from '../../protocol/rows.ts'
import { kinds } from '../../protocol/search-hits.ts'
import Type from '../../protocol/typebox.ts'
import type { Api, Query, Row } from './api.ts'
import { fittingRows, rowsBytes, shorten } from './result.ts'
import { Citizen, Mission, Seq, tool } from './tool.ts'

const Limit = (usual: number) => Type.Optional(Type.Integer({ minimum: 1, maximum: 500, default: usual }))
const Cursor = Type.Optional(Type.String({ maxLength: 500, description: '`next` of the page before' }))
const roles = ['user', 'citizen'] as const

/** Reads a page whose rows fit into a result: a page that is too large is read again with a smaller limit, so that `next` is right. */
const page = async (api: Api, path: string, name: string, query: Query, limit: number): Promise<Row> => {
  for (;;) {
    const found = await api.get(path, { ...query, limit })
    const rows = found[name] as Row[]
    const fits = fittingRows(rows)
    if (fits === rows.length) return { [name]: rows, next: found['next'] }
    if (rows.length === 1 || limit === 1)
      return { [name]: rows.map((row) => shorten(row, rowsBytes)), next: found['next'] }
    limit = Math.max(1, fits)
  }
}

export const listMissions = tool('list_missions', {
  roles,
  title: 'List missions',
  description: 'Missions that you may see, by number. `next` is the cursor of the next page, null on the last.',
  reads: true,
  args: Type.Object({ status: Type.Optional(MissionStatus), limit: Limit(50), cursor: Cursor }),
  run: (api, { limit = 50, ...query }) => page(api, '/api/missions', 'missions', query, limit),
})

export const readChat = tool('read_chat', {
  roles,
  title: 'Read a chat',
  description:
    'Messages of the chat of a mission and a citizen, oldest first: the newest ones, or with `after` those that follow that seq. ' +
    '`next` has the `after` or `before` of the next page; null: no more.',
  reads: true,
  args: Type.Object({
    mission: Mission,
    citizen: Citizen,
    after: Type.Optional(Seq),
    before: Type.Optional(Seq),
    limit: Limit(20),
  }),
  async run(api, { mission, citizen, limit = 20, ...bounds }) {
    const found = await api.get(`/api/missions/${mission}/chat/${citizen}`, { ...bounds, limit })
    const rows = found['messages'] as Row[]
    const onward = bounds.after !== undefined
    const fits = fittingRows(onward ? rows : rows.toReversed())
    let kept = onward ? rows.slice(0, fits) : rows.slice(rows.length - fits)
    if (fits === 0) kept = rows.slice(...(onward ? [0, 1] : [-1])).map((row) => shorten(row, rowsBytes))
    const more = found['has_more'] === true || kept.length < rows.length
    const edge = kept.at(onward ? -1 : 0)?.['seq']
    const next = !more ? null : onward ? { ...bounds, after: edge } : { before: edge }
    return { messages: kept, last_seq: found['last_seq'], next }
  },
})

export const search = tool('search', {
  roles,
  title: 'Search a mission',
  description: "Searches a mission's messages, code blocks, test runs and checklist. Newest hits first.",
  reads: true,
  args: Type.Object({
    mission: Mission,
    q: Type.String({ ...filterFields.q, description: 'all words; supports "a phrase", or, -without' }),
    kind: Type.Optional(Type.Enum([...kinds])),
    limit: Limit(20),
    cursor: Cursor,
  }),
  run: (api, { mission, limit = 20, ...query }) => page(api, `/api/missions/${mission}/search`, 'hits', query, limit),
})
