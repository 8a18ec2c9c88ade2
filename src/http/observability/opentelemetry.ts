// OpenTelemetry, as traces use it: the build puts it and its twelve packages into this one file (scripts/build.js), since they are 28 MB
// and what is used of them is under 1 MB. Nothing is added.
export { ROOT_CONTEXT, SpanKind, SpanStatusCode, TraceFlags, trace, type Context, type Link } from '@opentelemetry/api'
export { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
export { detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources'
export {
  BasicTracerProvider,
  BatchSpanProcessor,
  RandomIdGenerator,
  SamplingDecision,
  TraceIdRatioBasedSampler,
  type SpanExporter,
} from '@opentelemetry/sdk-trace-base'
