// What goes out by HTTP, and what pages have in common.
import type { FastifyReply, FastifyRequest } from 'fastify'
import Type from '../../protocol/typebox.ts'

/** Sends JSON text as it is: rows come from the database already formed. */
export const json = (reply: FastifyReply, text: string): FastifyReply =>
  reply.type('application/json; charset=utf-8').send(text)

export const Limit = Type.Optional(Type.Integer({ minimum: 1, maximum: 500, default: 50, description: 'rows a page' }))

/** One JSON object a line. */
export const lines = 'application/x-ndjson'

/** Headers of a response that is sent as it is made: no proxy reuses, compresses or buffers it. */
export const streamed = { 'cache-control': 'no-cache, no-transform', 'x-accel-buffering': 'no' }

/** What a header such as Accept lists, each with its weight. */
export const weighed = (header: string): { name: string; weight: number }[] =>
  header.split(',').map((range) => {
    const [name = '', ...params] = range.split(';').map((part) => part.trim().toLowerCase())
    return { name, weight: Number(params.find((param) => param.startsWith('q='))?.slice(2) ?? 1) }
  })

/** Returns the media type that a request prefers, the first of equals; JSON for a wildcard and for unknown types. */
export const preferred = ({ headers: { accept = '' } }: FastifyRequest, ...forms: string[]): string => {
  const json = 'application/json'
  let best = { form: json, quality: 0 }
  for (const { name, weight } of weighed(accept)) {
    const form = forms.includes(name) ? name : [json, 'application/*', '*/*'].includes(name) ? json : undefined
    if (form && weight > best.quality) best = { form, quality: weight }
  }
  return best.form
}
