// What goes out by HTTP, and what pages have in common.
import type { FastifyReply } from 'fastify'
import Type from 'typebox'

/** Sends JSON text as it is: rows come from the database already formed. */
export const json = (reply: FastifyReply, text: string): FastifyReply =>
  reply.type('application/json; charset=utf-8').send(text)

export const Limit = Type.Optional(Type.Integer({ minimum: 1, maximum: 500, default: 50, description: 'rows a page' }))
