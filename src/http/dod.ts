// The definition of done: a mission's checklist.
import type { FastifyInstance } from 'fastify'
import Type, { type Static } from 'typebox'
import { allow } from '../access/policy.ts'
import type { Changes } from '../log/changes.ts'
import type { Past } from '../log/past.ts'
import { DodItem, DodPatch, NewDodItem, Progress } from '../protocol/rows.ts'
import { describe } from './docs.ts'
import { actorOf } from './identity.ts'
import { asOf, AsOf, named } from './input.ts'
import { json } from './output.ts'

const Checklist = Type.Object({ items: Type.Array(DodItem), progress: Progress })
const Changed = Type.Object({ item: DodItem, progress: Progress })

export const dodRoutes = (app: FastifyInstance, changes: Changes, past: Past): void => {
  const list = '/api/missions/:mission/dod'

  app.get(
    list,
    { schema: describe('dod', 'The checklist', ['mission'], { 200: Checklist }, { querystring: Type.Object(AsOf) }) },
    async (request, reply) => {
      const at = asOf(request)
      const ref = named(request).mission
      if (at !== undefined) {
        const { mission, known } = await past.checklist(ref, at)
        allow(actorOf(request), 'read', mission)
        return json(reply, known())
      }
      const { mission, json: row } = await changes.checklist(ref)
      allow(actorOf(request), 'read', mission)
      return json(reply, row)
    },
  )

  app.post<{ Body: NewDodItem }>(
    list,
    { schema: describe('dod', 'A new item (citizen, admin)', ['mission'], { 201: DodItem }, { body: NewDodItem }) },
    async (request, reply) => {
      const actor = actorOf(request)
      const row = await changes.addItem(named(request).mission, (m) => allow(actor, 'dod.add', m), request.body)
      return json(reply.status(201), row)
    },
  )

  app.patch<{ Body: Static<typeof DodPatch> }>(
    `${list}/:item`,
    {
      schema: describe(
        'dod',
        'Tick or untick an item (user, admin)',
        ['mission', 'item'],
        { 200: Changed },
        { body: DodPatch },
      ),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      const { mission, item } = named(request)
      return json(
        reply,
        await changes.changeItem(mission, (m) => allow(actor, 'dod.toggle', m), item, request.body.completed),
      )
    },
  )

  app.delete(
    `${list}/:item`,
    { schema: describe('dod', 'Delete an item (admin)', ['mission', 'item'], { 200: Changed }) },
    async (request, reply) => {
      const actor = actorOf(request)
      const { mission, item } = named(request)
      return json(reply, await changes.changeItem(mission, (m) => allow(actor, 'dod.delete', m), item, null))
    },
  )

  for (const [verb, completed, summary] of [
    ['complete', true, "Tick all items; the mission's status becomes qa (user, admin)"],
    ['reset', false, 'Untick all items (user, admin)'],
  ] as const) {
    app.post(
      `${list}/${verb}`,
      { schema: describe('dod', summary, ['mission'], { 200: Checklist }) },
      async (request, reply) => {
        const actor = actorOf(request)
        return json(
          reply,
          await changes.changeAllItems(named(request).mission, (m) => allow(actor, 'dod.toggle', m), completed),
        )
      },
    )
  }
}
