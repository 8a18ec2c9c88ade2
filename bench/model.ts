// The cost model of docs/scaling.md. It reads the measured costs (bench/cost.json, by `npm run bench -- cost`).
// It computes the capacity of a number of instances, the part that breaks first, and the plot.
// Nothing here is measured; the assumptions are in `assumed`.
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

export type Unit = { server: number; postgres: number }
/** In µs, unless stated otherwise. */
export type Cost = {
  message: Unit
  batch: Unit
  /** of the server: as one of many in a single write, and alone */
  delivery: { busy: number; alone: number }
  /** a read of messages that another instance wrote, of several topics at once */
  read: Unit
  /**
   * A notification, by its kind. `server`: an instance that receives it. `postgres`: Postgres, for each receiver. `nats`: NATS per message
   * at 2,000/s. `natsBusy`: NATS per message in or out under high load.
   */
  hint: Record<string, Unit & { nats: number; natsBusy?: number }>
  /** bytes per message, one by one and in full batches */
  wal: number
  walFull: number
  /** duration of a full batch in ms; a read takes as long */
  batchMs: number
}

const root = fileURLToPath(new URL('../../../', import.meta.url))

const assumed = {
  /** cores of an instance and of the primary Postgres; Node runs on one core, and uses a part of a second */
  instanceCores: 1,
  postgresCores: 16,
  /** the planned load of a core, which leaves room for peaks */
  busy: 0.6,
  /** sockets per instance (MAX_SOCKETS), followers per topic, and messages per minute and socket */
  sockets: 20_000,
  followers: 5,
  perMinute: 1,
  /** bytes/s of WAL that a primary can write and ship permanently */
  walBytes: 200e6,
}

type Step = {
  instances: number
  sockets: number
  messages: number
  instance: number
  postgres: number
  bus: number
  wal: number
  breaks: string
}

/** Returns the load of each part as a share of its capacity, for several numbers of instances that are full of sockets. */
export const steps = (cost: Cost, kind: string): Step[] =>
  [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].map((instances) => {
    const { instanceCores, postgresCores, busy, sockets, followers, perMinute, walBytes } = assumed
    const all = instances * sockets
    const messages = (all * perMinute) / 60
    // An instance has one batch and one read in flight; messages that arrive meanwhile form the next one.
    const most = (instances * 1000) / cost.batchMs
    const batches = Math.min(messages, most)
    // The expected number of instances that the followers of a topic are spread over.
    const spread = instances * (1 - (1 - 1 / instances) ** followers)
    const reads = Math.min(messages * (spread - 1), most)
    // An instance full of sockets listens to all channels of NOTIFY; with NATS it receives only the topics that it follows.
    const hints = messages * (kind === 'NATS' ? spread - 1 : instances - 1)
    const hint = cost.hint[kind] ?? { server: 0, postgres: 0, nats: 0, natsBusy: 0 }
    const of = (part: 'server' | 'postgres'): number =>
      messages * cost.message[part] + batches * cost.batch[part] + reads * cost.read[part] + hints * hint[part]
    const share = (micros: number, cores: number): number => micros / 1e6 / cores / busy
    const parts = {
      instance: share((of('server') + messages * followers * cost.delivery.alone) / instances, instanceCores),
      postgres: share(of('postgres'), postgresCores),
      bus: share((messages + hints) * (hint.natsBusy ?? 0), 1),
      wal: (messages * cost.wal) / walBytes,
    }
    const [[worst = '', value = 0] = []] = Object.entries(parts).sort(([, a], [, b]) => b - a)
    return { instances, sockets: all, messages, ...parts, breaks: value > 1 ? worst : '' }
  })

const percent = (share: number): string => `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`

const plot = (all: Record<string, Step[]>): string => {
  const [width, height, left, top] = [760, 420, 60, 50]
  const x = (instances: number): number => left + (Math.log10(instances) / 3) * (width - left - 150)
  const y = (share: number): number =>
    top + (1 - (Math.log10(Math.max(1e-4, Math.min(100, share))) + 4) / 6) * (height - top - 50)
  const parts: string[] = []
  const text = (at: number, down: number, what: string, style = ''): void =>
    void parts.push(`<text x="${at.toFixed(0)}" y="${down.toFixed(0)}" ${style}>${what}</text>`)
  text(16, 24, 'Share of what each part can do, by instances of 20,000 sockets', 'font-size="15" font-weight="bold"')
  for (const share of [1e-4, 1e-3, 0.01, 0.1, 1, 10, 100]) {
    parts.push(
      `<line x1="${left}" x2="${width - 150}" y1="${y(share)}" y2="${y(share)}" stroke="${share === 1 ? '#a00' : '#ddd'}"/>`,
    )
    text(10, y(share) + 4, percent(share), 'fill="#666"')
  }
  for (const instances of [1, 10, 100, 1000]) text(x(instances) - 8, height - 28, String(instances), 'fill="#666"')
  const lines: [string, string, 'instance' | 'postgres' | 'bus' | 'wal', string, string][] = [
    ['NOTIFY', 'an instance', 'instance', '#1f4e79', ''],
    ['NOTIFY', 'Postgres', 'postgres', '#c55a11', ''],
    ['NATS', 'Postgres, hints by NATS', 'postgres', '#c55a11', '4 3'],
    ['NATS', 'one NATS server', 'bus', '#548235', ''],
    ['NOTIFY', 'WAL', 'wal', '#7f6000', ''],
  ]
  for (const [kind, name, part, colour, dash] of lines) {
    const found = all[kind]
    if (!found) continue
    const points = found
      .filter((step) => step[part] > 0)
      .map((step) => `${x(step.instances).toFixed(1)},${y(step[part]).toFixed(1)}`)
    parts.push(
      `<polyline points="${points.join(' ')}" fill="none" stroke="${colour}" stroke-width="2" stroke-dasharray="${dash}"/>`,
    )
    text(width - 144, y(found.at(-1)?.[part] ?? 0) + 4, name, `fill="${colour}"`)
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n${parts.join('\n')}\n</svg>\n`
}

/** Prints the tables and draws bench/scaling.svg. */
export const model = (): Promise<void> => {
  const cost = JSON.parse(readFileSync(`${root}bench/cost.json`, 'utf8')) as Cost
  const all = Object.fromEntries(Object.keys(cost.hint).map((kind) => [kind, steps(cost, kind)]))
  for (const [kind, found] of Object.entries(all)) {
    const rows = found.map(({ instances, sockets, messages, instance, postgres, bus, wal, breaks }) =>
      [instances, sockets, Math.round(messages)]
        .map((n) => n.toLocaleString('en'))
        .concat(percent(instance), percent(postgres), percent(bus), percent(wal), breaks),
    )
    const lines = [
      ['instances', 'sockets', 'messages/s', 'an instance', 'Postgres', 'one NATS', 'WAL', 'breaks'],
      Array<string>(8).fill('--:'),
      ...rows,
    ]
    process.stdout.write(`\nHints by ${kind}:\n\n${lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n')}\n`)
  }
  writeFileSync(`${root}bench/scaling.svg`, plot(all))
  return Promise.resolve()
}
