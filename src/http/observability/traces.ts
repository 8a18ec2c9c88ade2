// OpenTelemetry traces; loaded only if an endpoint is set. The trace ID is the message's ID, so every instance knows it without
// storing or sending anything. deck.send spans from the frame or request to its answer, deck.commit is the batch that wrote it,
// and deck.deliver is the delivery to one instance's sockets. deck.batch is a separate trace.
// Sampling depends on the ID only, so all instances agree. Spans that can't be exported in time are dropped.
import type { Config } from '../../config/index.ts'
import type { Pending } from '../../database/write/pending-message.ts'
import type { Writer } from '../../database/write/writer.ts'
import { Refusal } from '../../protocol/errors.ts'
import type { Page } from '../../protocol/rows.ts'
import {
  BasicTracerProvider,
  BatchSpanProcessor,
  OTLPTraceExporter,
  ROOT_CONTEXT,
  RandomIdGenerator,
  SamplingDecision,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  TraceIdRatioBasedSampler,
  detectResources,
  envDetector,
  resourceFromAttributes,
  trace,
  type Context,
  type Link,
  type SpanExporter,
} from './opentelemetry.ts'

/** The most links of a span. The span of a larger batch links to its first messages. */
const mostLinks = 128

export type Traces = {
  /** Returns a writer that traces each appended message; `by` is where messages come from. */
  watch(writer: Writer, by: 'socket' | 'http'): Writer
  /** A batch was answered (`since`, `until`: performance.now()). Entries that were busy are in a later batch again. */
  committed(entries: readonly Pending[], since: number, until: number): void
  /** A page was delivered to its subscriptions in this turn of the event loop. */
  delivered(topic: string, page: Page): void
  close(): Promise<void>
}

/** The IDs of a message's trace and first span. The UUID's variant bits keep the span ID from being 0. */
const idsOf = (message: string) => {
  const traceId = message.replaceAll('-', '').toLowerCase()
  return { traceId, spanId: traceId.slice(16) }
}
const idOf = (data: string): string | undefined => /^\{"id" ?: ?"([0-9a-f-]{36})"/.exec(data)?.[1]

/** Reports failed exports: the SDK itself is silent. */
const reporting = (exporter: SpanExporter, onError: (error: unknown) => void): SpanExporter => ({
  export: (spans, done) =>
    exporter.export(spans, (result) => {
      if (result.error) onError(result.error)
      done(result)
    }),
  shutdown: () => exporter.shutdown(),
})

export const makeTraces = (
  { url, service, ratio }: NonNullable<Config['traces']>,
  { instance, version, onError }: { instance: string; version: string; onError: (error: unknown) => void },
): Traces => {
  const byId = new TraceIdRatioBasedSampler(ratio)
  const sampled = (traceId: string): boolean =>
    byId.shouldSample(ROOT_CONTEXT, traceId).decision === SamplingDecision.RECORD_AND_SAMPLED
  const random = new RandomIdGenerator()
  // The IDs of the next span; the generator is called while the span is created.
  let named: { traceId: string; spanId: string } | undefined
  const own = resourceFromAttributes({
    'service.name': service,
    'service.version': version,
    'service.instance.id': instance,
  })
  const provider = new BasicTracerProvider({
    resource: detectResources({ detectors: [envDetector] }).merge(own),
    sampler: {
      shouldSample: (context, traceId, name) =>
        name === 'deck.batch' ? { decision: SamplingDecision.RECORD_AND_SAMPLED } : byId.shouldSample(context, traceId),
      toString: () => `by the message's id, ${ratio}`,
    },
    idGenerator: {
      generateTraceId: () => named?.traceId ?? random.generateTraceId(),
      generateSpanId: () => named?.spanId ?? random.generateSpanId(),
    },
    spanLimits: { linkCountLimit: mostLinks },
    spanProcessors: [new BatchSpanProcessor(reporting(new OTLPTraceExporter({ url }), onError))],
  })
  const tracer = provider.getTracer('mission-deck', version)
  const contextOf = (message: string) => ({ ...idsOf(message), traceFlags: TraceFlags.SAMPLED })
  const within = (message: string): Context =>
    trace.setSpanContext(ROOT_CONTEXT, { ...contextOf(message), isRemote: true })

  const append = (writer: Writer, by: string): Writer['append'] => {
    return (entry, since = performance.now()) => {
      const written = writer.append(entry, since)
      named = idsOf(entry.id)
      if (!sampled(named.traceId)) {
        named = undefined
        return written
      }
      const attributes = { 'deck.topic': entry.topic, 'deck.by': by }
      const span = tracer.startSpan('deck.send', { kind: SpanKind.SERVER, startTime: since, attributes, root: true })
      named = undefined
      written.then(
        ({ seq, seen, message }) => {
          span.setAttributes({ 'deck.seq': seq, 'deck.seen': seen })
          // The message differs: it is the one that was stored under the key before.
          const first = seen ? idOf(message) : undefined
          if (first !== undefined) span.addLink({ context: contextOf(first) })
          span.end()
        },
        (error: unknown) => {
          const code = error instanceof Refusal ? error.code : 'internal'
          span.setStatus({ code: SpanStatusCode.ERROR, message: code }).end()
        },
      )
      return written
    }
  }

  return {
    watch: (writer, by) => ({ ...writer, append: append(writer, by) }),
    committed(entries, since, until) {
      const done = entries.filter(({ settled, entry }) => settled && sampled(idsOf(entry.id).traceId))
      const ids = done.map(({ entry }) => entry.id)
      if (ids.length === 0) return
      const attributes = { 'deck.messages': entries.length }
      const links = ids.slice(0, mostLinks).map((id): Link => ({ context: contextOf(id) }))
      const batch = tracer.startSpan('deck.batch', {
        kind: SpanKind.CLIENT,
        startTime: since,
        attributes,
        links,
        root: true,
      })
      batch.end(until)
      for (const id of ids)
        tracer
          .startSpan(
            'deck.commit',
            { startTime: since, attributes, links: [{ context: batch.spanContext() }] },
            within(id),
          )
          .end(until)
    },
    delivered(topic, { events, asOf }) {
      const spans = events.flatMap(({ seq, event, data }) => {
        const id = event === 'message.created' ? idOf(data) : undefined
        if (id === undefined || !sampled(idsOf(id).traceId)) return []
        const attributes = { 'deck.topic': topic, 'deck.seq': seq }
        return [tracer.startSpan('deck.deliver', { kind: SpanKind.PRODUCER, startTime: asOf, attributes }, within(id))]
      })
      // Sockets are written at the end of this turn of the event loop.
      if (spans.length > 0) setImmediate(() => spans.forEach((span) => span.end()))
    },
    // Spans that can't be exported are lost; `onError` has reported it.
    close: () => provider.shutdown().catch(() => {}),
  }
}
