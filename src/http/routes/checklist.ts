// The definition of done: a mission's checklist. The database checks the evidence that an item needs.
import type { FastifyInstance } from 'fastify'
import Type from '../../protocol/typebox.ts'
import { allow } from '../../access/policy.ts'
import type { ChecklistChanges } from '../../database/write/checklist.ts'
import type { Past } from '../../database/read/state-at.ts'
import { deny } from '../../protocol/errors.ts'
import { DodCompletion, DodItem, DodPatch, NewDodItem, Progress, type MissionRights } from '../../protocol/rows.ts'
import { describe } from './openapi.ts'
import { actorOf } from '../plugins/authenticate.ts'
import { asOf, AsOf, named } from '../plugins/validation.ts'
import { json } from '../plugins/negotiation.ts'

const Checklist = Type.Object({ items: Type.Array(DodItem), progress: Progress })
const Changed = Type.Object({ item: DodItem, progress: Progress })

export const dodRoutes = (app: FastifyInstance, changes: ChecklistChanges, past: Past): void => {
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
    { schema: describe('dod', 'Add an item (citizen, admin)', ['mission'], { 201: DodItem }, { body: NewDodItem }) },
    async (request, reply) => {
      const actor = actorOf(request)
      const row = await changes.addItem(named(request).mission, (m) => allow(actor, 'dod.add', m), request.body)
      return json(reply.status(201), row)
    },
  )

  app.patch<{ Body: DodPatch }>(
    `${list}/:item`,
    {
      schema: describe(
        'dod',
        'Tick or untick an item (user, admin), name another test (admin)',
        ['mission', 'item'],
        { 200: Changed },
        {
          body: DodPatch,
          description:
            'An item with a test can be completed only if the test passed in the newest finished run that contains it; ' +
            'otherwise the response is `conflict`. An admin may complete it without that, with the reason as `override`. The test ' +
            'of a completed item cannot be changed: untick the item first.',
        },
      ),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      const { mission, item } = named(request)
      const { completed, test_name, override } = request.body
      if (completed === undefined && test_name === undefined) throw deny('bad_request', 'body completed is missing')
      if (override !== undefined && completed !== true) throw deny('bad_request', 'body override needs completed: true')
      const row = await changes.changeItem(
        mission,
        (m) => {
          if (completed !== undefined) allow(actor, 'dod.toggle', m)
          if (test_name !== undefined || override !== undefined) allow(actor, 'dod.override', m)
        },
        item,
        request.body,
        actor.sub,
      )
      return json(reply, row)
    },
  )

  app.delete(
    `${list}/:item`,
    { schema: describe('dod', 'Delete an item (admin)', ['mission', 'item'], { 200: Changed }) },
    async (request, reply) => {
      const actor = actorOf(request)
      const { mission, item } = named(request)
      return json(reply, await changes.changeItem(mission, (m) => allow(actor, 'dod.delete', m), item, null, actor.sub))
    },
  )

  app.post<{ Body: DodCompletion | null }>(
    `${list}/complete`,
    {
      schema: describe(
        'dod',
        "Tick all items; the mission's status becomes qa (user, admin)",
        ['mission'],
        { 200: Checklist },
        {
          body: Type.Union([DodCompletion, Type.Null()]),
          description:
            'All or nothing: if an item with a test lacks passing evidence, the response is `conflict` and names these items. ' +
            'An admin may complete them without evidence, with the reason as `override`.',
        },
      ),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      const override = request.body?.override
      const row = await changes.changeAllItems(
        named(request).mission,
        (m) => {
          allow(actor, 'dod.toggle', m)
          if (override !== undefined) allow(actor, 'dod.override', m)
        },
        true,
        override,
        actor.sub,
      )
      return json(reply, row)
    },
  )

  app.post(
    `${list}/reset`,
    {
      schema: describe('dod', 'Untick all items; a mission in qa becomes active (user, admin)', ['mission'], {
        200: Checklist,
      }),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      const { mission } = named(request)
      const may = (m: MissionRights | undefined) => allow(actor, 'dod.toggle', m)
      return json(reply, await changes.changeAllItems(mission, may, false, undefined, actor.sub))
    },
  )
}
