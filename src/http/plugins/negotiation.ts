// Content negotiation and responses: JSON, NDJSON, headers of streams, and the `limit` parameter.
import type { FastifyReply, FastifyRequest } from 'fastify'
import Type from '../../protocol/typebox.ts'

/** Sends JSON text: rows arrive from the database as JSON. */
export const json = (reply: FastifyReply, text: string): FastifyReply =>
  reply.type('application/json; charset=utf-8').send(text)

export const Limit = Type.Optional(Type.Integer({ minimum: 1, maximum: 500, default: 50, description: 'rows a page' }))

/** The media type of NDJSON: one JSON object a line. */
export const lines = 'application/x-ndjson'

/** Headers of a streamed response: proxies must not cache, compress or buffer it. */
export const streamed = { 'cache-control': 'no-cache, no-transform', 'x-accel-buffering': 'no' }

/** Parses a header such as Accept: each name with its weight. */
export const weighed = (header: string): { name: string; weight: number }[] =>
  header.split(',').map((range) => {
    const [name = '', ...params] = range.split(';').map((part) => part.trim().toLowerCase())
    return { name, weight: Number(params.find((param) => param.startsWith('q='))?.slice(2) ?? 1) }
  })

/** Returns the media type that a request prefers; if several weigh the same, the first. JSON for a wildcard and for unknown types. */
export const preferred = ({ headers: { accept = '' } }: FastifyRequest, ...forms: string[]): string => {
  const json = 'application/json'
  let best = { form: json, quality: 0 }
  for (const { name, weight } of weighed(accept)) {
    const form = forms.includes(name) ? name : [json, 'application/*', '*/*'].includes(name) ? json : undefined
    if (form && weight > best.quality) best = { form, quality: weight }
  }
  return best.form
}
